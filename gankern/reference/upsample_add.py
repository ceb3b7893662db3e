"""upsample_add in plain PyTorch."""

from __future__ import annotations

import torch

from gankern.reference.upfirdn2d import upfirdn2d


def upsample_add(
    x: torch.Tensor,
    y: torch.Tensor,
    f: torch.Tensor,
    up: tuple[int, int],
    padding: tuple[int, int, int, int],
    flip_filter: bool,
    gain: float,
) -> torch.Tensor:
    """upfirdn2d(x, f, up) + y; arguments as in `gankern.upsample_add`, all given, the padding that of upfirdn2d."""
    return upfirdn2d(x, f, up, (1, 1), padding, flip_filter, gain).add_(y)
