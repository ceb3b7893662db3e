"""pixel_norm in plain PyTorch."""

from __future__ import annotations

import torch


def pixel_norm(x: torch.Tensor, dim: int, eps: float) -> torch.Tensor:
    """y = x / sqrt(mean(x^2) + eps) along `dim`; arguments as in `gankern.pixel_norm`, all given."""
    y = x if x.dtype == torch.float64 else x.float()  # a square overflows float16 from 256 on
    y = y * (y.square().mean(dim=dim, keepdim=True) + eps).rsqrt()
    return y.to(x.dtype)


def pixel_norm_backward(dy: torch.Tensor, x: torch.Tensor, dim: int, eps: float) -> torch.Tensor:
    """dx = r * (dy - y * mean(dy * y)) with y = r * x; symmetric in the sense that <g, dx(dy)> = <dx(g), dy>."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    v, g = x.to(dtype), dy.to(dtype)
    r = (v.square().mean(dim=dim, keepdim=True) + eps).rsqrt()
    y = r * v
    return (r * (g - y * (g * y).mean(dim=dim, keepdim=True))).to(x.dtype)


def pixel_norm_backward_backward(
    ddx: torch.Tensor, dy: torch.Tensor, x: torch.Tensor, dim: int, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of <ddx, pixel_norm_backward(dy, x)> to dy and x.

    With y = r * x, a = mean(ddx * dy), p = mean(ddx * y), m = mean(dy * y):
    ddy = r * (ddx - p * y), grad_x = r^2 * ((3 * p * m - a) * y - p * dy - m * ddx).
    """
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    h, g, v = ddx.to(dtype), dy.to(dtype), x.to(dtype)
    r = (v.square().mean(dim=dim, keepdim=True) + eps).rsqrt()
    y = r * v
    a, p, m = (product.mean(dim=dim, keepdim=True) for product in (h * g, h * y, g * y))
    return (r * (h - p * y)).to(dy.dtype), (r * r * ((3 * p * m - a) * y - p * g - m * h)).to(x.dtype)
