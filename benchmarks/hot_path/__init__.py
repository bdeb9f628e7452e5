"""The path of a change, measured beside what one would otherwise write: `python -m benchmarks.hot_path`."""
