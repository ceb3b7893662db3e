"""normalize_2nd_moment in plain PyTorch."""

from __future__ import annotations

import torch


def normalize_2nd_moment(x: torch.Tensor, dim: int, eps: float) -> torch.Tensor:
    """y = x / sqrt(mean(x^2) + eps) along `dim`; arguments as in `gankern.normalize_2nd_moment`, all given."""
    y = x if x.dtype == torch.float64 else x.float()  # a square overflows float16 from 256 on
    y = y * (y.square().mean(dim=dim, keepdim=True) + eps).rsqrt()
    return y.to(x.dtype)
