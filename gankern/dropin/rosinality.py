"""The ops of rosinality's StyleGAN2, in pSp, e4e, ReStyle, StyleGAN-NADA, JoJoGAN and many more, and of BasicSR.

A folder `op` (or `op_edit`, or under another name) with `fused_act.py` and `upfirdn2d.py`, which compile when they are
imported; in BasicSR, and so GFPGAN, two folders of these names in `basicsr.ops`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

import gankern
from gankern.dropin import nvlabs
from gankern.dropin.calls import count


class FusedLeakyReLU(torch.nn.Module):
    """`fused_leaky_relu` with its bias. Older forks have no argument `bias`: a slope in its place is understood."""

    def __init__(self, channel: int, bias: Any = True, negative_slope: float = 0.2, scale: float = 2**0.5) -> None:
        super().__init__()
        if isinstance(bias, float):
            bias, negative_slope, scale = True, bias, negative_slope if negative_slope != 0.2 else scale
        self.bias = torch.nn.Parameter(torch.zeros(channel)) if bias else None
        self.negative_slope = negative_slope
        self.scale = scale

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return fused_leaky_relu(input, self.bias, self.negative_slope, self.scale)


def fused_leaky_relu(
    input: torch.Tensor, bias: torch.Tensor | None = None, negative_slope: float = 0.2, scale: float = 2**0.5
) -> torch.Tensor:
    """scale * lrelu(input + bias), the bias along dimension 1.

    The published CPU path takes 0.2 for every slope, which is not kept.
    """
    count("fused_leaky_relu", input, kernels="bias_act")
    return gankern.bias_act(input, bias, act="lrelu", alpha=float(negative_slope), gain=float(scale))


def upfirdn2d(
    input: torch.Tensor, kernel: torch.Tensor, up: Any = 1, down: Any = 1, pad: Sequence[int] = (0, 0)
) -> torch.Tensor:
    """`gankern.upfirdn2d`; `pad` is (before, after) for both axes, or (x_before, x_after, y_before, y_after)."""
    padding = tuple(pad) * 2 if len(pad) == 2 else tuple(pad)
    return nvlabs.upfirdn2d(input, kernel.float(), _pair(up), _pair(down), padding)


def upfirdn2d_native(
    input: torch.Tensor,
    kernel: torch.Tensor,
    up_x: int,
    up_y: int,
    down_x: int,
    down_y: int,
    pad_x0: int,
    pad_x1: int,
    pad_y0: int,
    pad_y1: int,
) -> torch.Tensor:
    """The same in plain PyTorch."""
    padding = (pad_x0, pad_x1, pad_y0, pad_y1)
    return nvlabs.upfirdn2d(input, kernel.float(), (up_x, up_y), (down_x, down_y), padding, impl="ref")


def _pair(scale: Any) -> Any:
    return tuple(scale) if isinstance(scale, Iterable) else scale


MODULES: dict[str, dict[str, Any]] = {
    "fused_act": {"FusedLeakyReLU": FusedLeakyReLU, "fused_leaky_relu": fused_leaky_relu},
    "upfirdn2d": {"upfirdn2d": upfirdn2d, "upfirdn2d_native": upfirdn2d_native},
    "conv2d_gradfix": nvlabs.MODULES["conv2d_gradfix"],
}
