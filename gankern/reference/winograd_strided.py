"""winograd_strided in plain PyTorch: the convolutions that its kernels compute, by the vendor's library."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def winograd_strided(
    x: torch.Tensor,
    w: torch.Tensor,
    padding: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int] = (0, 0),
    scale: torch.Tensor | None = None,
    out_scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """y = out_scale * conv2d(scale * x, w, stride=2), or with `transposed` its transpose, of w [I, O, 3, 3]."""
    if scale is not None:
        x = x * scale.to(x.dtype)[:, :, None, None]
    w = w.to(x.dtype)
    if transposed:
        y = F.conv_transpose2d(x, w, stride=2, padding=tuple(padding), output_padding=tuple(output_padding))
    else:
        y = F.conv2d(x, w, stride=2, padding=tuple(padding))
    return y if out_scale is None else y * out_scale.to(x.dtype)[:, :, None, None]


def winograd_strided_weight_gradient(
    large: torch.Tensor,
    small: torch.Tensor,
    padding: Sequence[int],
    large_scale: torch.Tensor | None = None,
    small_scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """The gradient of w in conv2d(large_scale * large, w, stride=2), for small_scale * small as its result's."""
    large = large if large_scale is None else large * large_scale.to(large.dtype)[:, :, None, None]
    small = small if small_scale is None else small * small_scale.to(small.dtype)[:, :, None, None]
    w = large.new_empty([small.shape[1], large.shape[1], 3, 3])
    geometry = ([2, 2], list(padding), [1, 1], False, [0, 0], 1)
    return torch.ops.aten.convolution_backward(small, large, w, None, *geometry, [False, True, False])[1]
