"""squared_norms: the squared length of every sample of a batch, what gradient penalties are made of."""

from __future__ import annotations

from typing import Any

import torch

from gankern import checks, dispatch, library
from gankern.reference import squared_norms as reference


def squared_norms(x: torch.Tensor, *, backend: str | None = None) -> torch.Tensor:
    """Sums the squares of each sample in one pass: y[n] = sum of x[n]^2 over all other dimensions.

    Args:
        x: Batch [N, ...] with at least one dimension; float64, float32, bfloat16 or float16, any strides.
        backend: 'native', 'triton' or 'eager'; None chooses.

    Returns:
        Tensor [N], float64 for float64, else float32.

    Raises:
        TypeError: x is not a tensor of a dtype named above.
        ValueError: x has no dimension.
        RuntimeError: the backend was forced and cannot run.

    Gradients: x, to any order: 2 x[n] dy[n], in one pass.
    Backends: native (CPU), triton, eager. Sums in float32 by blocks, then in float64 on the CPU.
    Source: Mescheder et al., "Which Training Methods for GANs do actually Converge?", 2018, equation 9; Gulrajani et
        al., "Improved Training of Wasserstein GANs", 2017, equation 3.
    """
    checks.check_floating("squared_norms", "x", x)
    if x.ndim == 0:
        raise checks.bad_value("squared_norms", "x", "have at least one dimension", "a scalar tensor")
    chosen = dispatch.choose("squared_norms", x.device.type, backend)
    if chosen == "eager":
        return reference.squared_norms(x)
    return library.ops(chosen).squared_norms(x)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, ops: Any, dy: torch.Tensor | None) -> torch.Tensor | None:
    return None if dy is None else ops.squared_norms_backward(dy, *ctx.saved_tensors)


library.define(
    "squared_norms",
    "(Tensor x) -> Tensor",
    fake=lambda x: x.new_empty([x.shape[0]], dtype=_wide(x.dtype)),
    setup_context=_setup_context,
    backward=_backward,
)


def _backward_backward(ctx: Any, ops: Any, ddx: torch.Tensor | None) -> tuple:
    """dx = 2 x[n] dy[n] is linear in both: to x the same kernel, to dy an inner product."""
    if ddx is None:
        return None, None
    dy, x = ctx.saved_tensors
    grad_dy = grad_x = None
    if ctx.needs_input_grad[0]:
        grad_dy = 2 * (ddx.to(dy.dtype) * x.to(dy.dtype)).reshape(x.shape[0], x[:1].numel()).sum(1)
    if ctx.needs_input_grad[1]:
        grad_x = ops.squared_norms_backward(dy, ddx)
    return grad_dy, grad_x


library.define(
    "squared_norms_backward",
    "(Tensor dy, Tensor x) -> Tensor",
    fake=lambda dy, x: torch.empty_like(x),
    setup_context=_setup_context,
    backward=_backward_backward,
)
