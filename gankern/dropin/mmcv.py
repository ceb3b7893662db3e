"""The GAN ops of mmcv 2: `mmcv.ops.bias_act` and its neighbours, whose arguments are `input`, `filter` and `bias`.

mmcv is a built package that needs more names of these modules than are here, so that they are not supplied whole: a
function takes the place of the one with its very parameters, after the module's import.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from gankern.dropin import nvlabs, rosinality


def _impl(use_custom_op: bool) -> str:
    return "cuda" if use_custom_op else "ref"


def bias_act(
    input: torch.Tensor,
    bias: torch.Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    use_custom_op: bool = True,
) -> torch.Tensor:
    """`gankern.bias_act`."""
    return nvlabs.bias_act(input, bias, dim, act, alpha, gain, clamp, _impl(use_custom_op))


def upfirdn2d(
    input: torch.Tensor,
    filter: torch.Tensor | None,
    up: Any = 1,
    down: Any = 1,
    padding: Any = 0,
    flip_filter: bool = False,
    gain: float = 1,
    use_custom_op: bool = True,
) -> torch.Tensor:
    """`gankern.upfirdn2d`."""
    return nvlabs.upfirdn2d(input, filter, up, down, padding, flip_filter, gain, _impl(use_custom_op))


def filter2d(
    input: torch.Tensor,
    filter: torch.Tensor | None,
    padding: Any = 0,
    flip_filter: bool = False,
    gain: float = 1,
    use_custom_op: bool = True,
) -> torch.Tensor:
    """`gankern.filter2d`."""
    return nvlabs.filter2d(input, filter, padding, flip_filter, gain, _impl(use_custom_op))


def upsample2d(
    input: torch.Tensor,
    filter: torch.Tensor | None,
    up: Any = 2,
    padding: Any = 0,
    flip_filter: bool = False,
    gain: float = 1,
    use_custom_op: bool = True,
) -> torch.Tensor:
    """`gankern.upsample2d`."""
    return nvlabs.upsample2d(input, filter, up, padding, flip_filter, gain, _impl(use_custom_op))


def downsample2d(
    input: torch.Tensor,
    filter: torch.Tensor | None,
    down: Any = 2,
    padding: Any = 0,
    flip_filter: bool = False,
    gain: float = 1,
    use_custom_op: bool = True,
) -> torch.Tensor:
    """`gankern.downsample2d`."""
    return nvlabs.downsample2d(input, filter, down, padding, flip_filter, gain, _impl(use_custom_op))


def filtered_lrelu(
    input: torch.Tensor,
    filter_up: torch.Tensor | None = None,
    filter_down: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: Any = 0,
    gain: float = math.sqrt(2),
    slope: float = 0.2,
    clamp: float | None = None,
    flip_filter: bool = False,
    use_custom_op: bool = True,
) -> torch.Tensor:
    """`gankern.filtered_lrelu`."""
    sizes = (up, down, padding, gain, slope, clamp, flip_filter)
    return nvlabs.filtered_lrelu(input, filter_up, filter_down, bias, *sizes, _impl(use_custom_op))


def fused_bias_leakyrelu(
    input: torch.Tensor, bias: torch.Tensor, negative_slope: float = 0.2, scale: float = 2**0.5
) -> torch.Tensor:
    """scale * lrelu(input + bias), the bias along dimension 1."""
    return rosinality.fused_leaky_relu(input, bias, negative_slope, scale)


MODULES: dict[str, dict[str, Any]] = {
    "bias_act": {"bias_act": bias_act},
    "upfirdn2d": {
        "upfirdn2d": upfirdn2d,
        "filter2d": filter2d,
        "upsample2d": upsample2d,
        "downsample2d": downsample2d,
    },
    "filtered_lrelu": {"filtered_lrelu": filtered_lrelu},
    "fused_bias_leakyrelu": {"fused_bias_leakyrelu": fused_bias_leakyrelu},
    "conv2d_gradfix": {"conv2d": nvlabs.conv2d, "conv_transpose2d": nvlabs.conv_transpose2d},
}
