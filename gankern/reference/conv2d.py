"""conv2d and conv_transpose2d in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from gankern.reference.bias_act import bias_act


def conv2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
) -> torch.Tensor:
    """Convolution, bias, activation; arguments as in `gankern.conv2d`, all given."""
    y = F.conv2d(input, weight.to(input.dtype), None, tuple(stride), tuple(padding), tuple(dilation), groups)
    return bias_act(y, bias, 1, act, alpha, gain, clamp, overwrite=True)


def conv_transpose2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
    dilation: Sequence[int],
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
) -> torch.Tensor:
    """Transposed convolution, bias, activation; arguments as in `gankern.conv_transpose2d`, all given."""
    sizes = (tuple(stride), tuple(padding), tuple(output_padding), groups, tuple(dilation))
    y = F.conv_transpose2d(input, weight.to(input.dtype), None, *sizes)
    return bias_act(y, bias, 1, act, alpha, gain, clamp, overwrite=True)
