"""Five million customers in one night, in small: `python -m benchmarks.mass_expiry --customers N`."""
