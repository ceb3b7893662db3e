"""filtered_lrelu in plain PyTorch."""

from __future__ import annotations

import torch

from gankern.reference.bias_act import bias_act
from gankern.reference.upfirdn2d import upfirdn2d


def filtered_lrelu(
    x: torch.Tensor,
    fu: torch.Tensor,
    fd: torch.Tensor,
    b: torch.Tensor | None,
    up: int,
    down: int,
    padding: tuple[int, int, int, int],
    gain: float,
    slope: float,
    clamp: float | None,
    flip_filter: bool,
) -> torch.Tensor:
    """Bias, upsampling, leaky ReLU, downsampling; arguments as in `gankern.filtered_lrelu`, all given."""
    x = bias_act(x, b, 1, "linear", 0.0, 1.0, None)
    x = upfirdn2d(x, fu, (up, up), (1, 1), padding, flip_filter, up**2)
    x = bias_act(x, None, 0, "lrelu", slope, gain, clamp)
    return upfirdn2d(x, fd, (1, 1), (down, down), (0, 0, 0, 0), flip_filter, 1.0)
