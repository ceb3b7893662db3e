"""pixel_norm, which StyleGAN2 calls normalize_2nd_moment: the scaling of vectors to unit second moment."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from gankern import checks, dispatch, library
from gankern.reference import pixel_norm as reference


def pixel_norm(x: torch.Tensor, dim: int = 1, eps: float = 1e-8, *, backend: str | None = None) -> torch.Tensor:
    """Scales x to a second moment of one along a dimension: y = x / sqrt(mean(x^2) + eps).

    Args:
        x: Input of any shape with at least one dimension; float64, float32, bfloat16 or float16, any strides.
            An image [N, C, H, W] for the pixel norm over its channels, or a latent [N, z_dim].
        dim: The dimension the mean is taken over.
        eps: Added to the mean, at least 0.
        backend: 'native', 'triton' or 'eager'; None chooses.

    Returns:
        Tensor of the shape, dtype and memory format of x.

    Raises:
        TypeError: x is not a floating-point tensor of a dtype named above, or eps is not a number.
        ValueError: x is a scalar, `dim` is out of range, eps is negative or NaN.
        RuntimeError: the backend was forced and cannot run.

    Gradients: x, to any order; the kernels know two.
    Backends: native (CPU), triton, eager. Arithmetic in float32 for 16-bit types.
    Source: Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018,
        section 4.2; Karras et al., "A Style-Based Generator Architecture for GANs", 2019 (of z).
    """
    _check("pixel_norm", x, dim, eps)
    dim, eps = dim % x.ndim, float(eps)
    chosen = dispatch.choose("pixel_norm", x.device.type, backend)
    if chosen == "eager":
        return reference.pixel_norm(x, dim, eps)
    return library.ops(chosen).pixel_norm(x, dim, eps)


def normalize_2nd_moment(
    x: torch.Tensor, dim: int = 1, eps: float = 1e-8, *, backend: str | None = None
) -> torch.Tensor:
    """StyleGAN2's name of `gankern.pixel_norm`: formula, arguments, result, errors and gradients are its own."""
    _check("normalize_2nd_moment", x, dim, eps)
    return pixel_norm(x, dim, eps, backend=backend)


def _check(op: str, x: Any, dim: Any, eps: Any) -> None:
    checks.check_floating(op, "x", x)
    if x.ndim == 0:
        raise checks.bad_value(op, "x", "have at least one dimension", "a scalar tensor")
    if not checks.is_integer(dim) or not -x.ndim <= dim < x.ndim:
        raise checks.bad_value(op, "dim", f"be in [{-x.ndim}, {x.ndim}) (x is {list(x.shape)})", repr(dim))
    checks.check_number(op, "eps", eps)
    if not eps >= 0:
        raise checks.bad_value(op, "eps", "be at least 0", eps)


def _setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    x, ctx.dim, ctx.eps = inputs
    ctx.save_for_backward(x)


def _backward(ctx: Any, ops: Any, dy: torch.Tensor | None) -> tuple:
    if dy is None:
        return None, None, None
    return ops.pixel_norm_backward(dy, *ctx.saved_tensors, ctx.dim, ctx.eps), None, None


library.define(
    "pixel_norm",
    "(Tensor x, int dim, float eps) -> Tensor",
    fake=lambda x, dim, eps: torch.empty_like(x),
    setup_context=_setup_context,
    backward=_backward,
)


def _setup_backward_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    *tensors, ctx.dim, ctx.eps = inputs
    ctx.save_for_backward(*tensors)


def _backward_backward(ctx: Any, ops: Any, ddx: torch.Tensor | None) -> tuple:
    if ddx is None:
        return (None,) * 4
    dy, x = ctx.saved_tensors
    if not ctx.needs_input_grad[1]:
        return ops.pixel_norm_backward(ddx, x, ctx.dim, ctx.eps), None, None, None
    return *ops.pixel_norm_backward_backward(ddx, dy, x, ctx.dim, ctx.eps), None, None


library.define(
    "pixel_norm_backward",
    "(Tensor dy, Tensor x, int dim, float eps) -> Tensor",
    fake=lambda dy, x, dim, eps: torch.empty_like(x),
    setup_context=_setup_backward_context,
    backward=_backward_backward,
)


def _third_order(ctx: Any, ops: Any, *gradients: torch.Tensor | None) -> tuple:
    function = partial(reference.pixel_norm_backward_backward, dim=ctx.dim, eps=ctx.eps)
    return *library.differentiate(function, ctx.saved_tensors, gradients), None, None


library.define(
    "pixel_norm_backward_backward",
    "(Tensor ddx, Tensor dy, Tensor x, int dim, float eps) -> (Tensor, Tensor)",
    fake=lambda ddx, dy, x, dim, eps: (torch.empty_like(x), torch.empty_like(x)),
    setup_context=_setup_backward_context,
    backward=_third_order,
)
