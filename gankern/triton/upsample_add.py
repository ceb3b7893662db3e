"""upsample_add: the kernel of upfirdn2d, which adds the summand as it stores."""

from __future__ import annotations

import torch

from gankern.triton.upfirdn2d import resample


def upsample_add(
    x: torch.Tensor,
    y: torch.Tensor,
    f: torch.Tensor,
    up_x: int,
    up_y: int,
    px0: int,
    px1: int,
    py0: int,
    py1: int,
    flip_filter: bool,
    gain: float,
) -> torch.Tensor:
    """Upsampled x plus y; arguments as in `gankern.upsample_add`, all given, the padding that of upfirdn2d."""
    width = x.shape[3] * up_x + px0 + px1 - f.shape[-1] + 1
    height = x.shape[2] * up_y + py0 + py1 - f.shape[0] + 1
    return resample(x, f, (up_x, up_y), (1, 1), (px0, py0), (width, height), flip_filter, gain, y)
