"""squared_norms in plain PyTorch."""

from __future__ import annotations

import torch


def squared_norms(x: torch.Tensor) -> torch.Tensor:
    """Sum of squares over all dimensions but the first; float32 for 16-bit x."""
    wide = x if x.dtype == torch.float64 else x.float()
    return wide.square().sum(list(range(1, x.ndim))) if x.ndim > 1 else wide.square()
