"""The benchmark cases, one module per op."""
