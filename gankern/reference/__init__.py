"""The truth: every op in plain PyTorch. Tests judge the kernels by it, and it is the `eager` backend."""
