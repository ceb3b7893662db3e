"""winograd in plain PyTorch: the convolutions that its kernels compute, by the vendor's library."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from gankern.reference.bias_act import bias_act


def winograd(x: torch.Tensor, w: torch.Tensor, padding: Sequence[int], transposed: bool) -> torch.Tensor:
    """y = conv2d(x, w), or with `transposed` weights rotated by 180 degrees, O and I exchanged."""
    if transposed:
        return F.conv_transpose2d(x, w.to(x.dtype), padding=[2 - p for p in padding])
    return F.conv2d(x, w.to(x.dtype), padding=tuple(padding))


def winograd_layer(
    x: torch.Tensor,
    w: torch.Tensor,
    padding: Sequence[int],
    scale: torch.Tensor | None = None,
    out_scale: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
    strength: torch.Tensor | None = None,
    b: torch.Tensor | None = None,
    act: str = "linear",
    alpha: float = 0.0,
    gain: float = 1.0,
    clamp: float | None = None,
) -> torch.Tensor:
    """clamp(gain * f(out_scale * conv2d(scale * x, w) + strength * noise + b)): a styled layer with its tail."""
    if scale is not None:
        x = x * scale.to(x.dtype)[:, :, None, None]
    y = winograd(x, w, padding, False)
    if out_scale is not None:
        y = y * out_scale.to(x.dtype)[:, :, None, None]
    if noise is not None:
        y = y + (noise if strength is None else noise * strength).to(x.dtype)
    return bias_act(y, b, 1, act, alpha, gain, clamp)


def winograd_weight_gradient(
    x: torch.Tensor,
    dy: torch.Tensor,
    padding: Sequence[int],
    scale: torch.Tensor | None = None,
    dy_scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """The gradient of w in conv2d(scale * x, w), for the gradient dy_scale * dy of its result."""
    x = x if scale is None else x * scale.to(x.dtype)[:, :, None, None]
    dy = dy if dy_scale is None else dy * dy_scale.to(dy.dtype)[:, :, None, None]
    w = x.new_empty([dy.shape[1], x.shape[1], 3, 3])
    geometry = ([1, 1], list(padding), [1, 1], False, [0, 0], 1)
    return torch.ops.aten.convolution_backward(dy, x, w, None, *geometry, [False, True, False])[1]
