"""Where the connector's limits are: `python -m benchmarks.limits`."""
