"""Benchmarks: `pytest bench/` for the suite, `python -m bench.run` for the table."""
