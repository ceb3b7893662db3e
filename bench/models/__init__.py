"""Benchmarks of whole training iterations, one module per model."""
