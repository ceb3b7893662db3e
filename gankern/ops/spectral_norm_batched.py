"""spectral_norm_batched: the weights of a whole network over their spectral norms, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gankern import checks, dispatch, library
from gankern.reference import spectral_norm_batched as reference

OP = "spectral_norm_batched"
Tensors = Sequence[torch.Tensor]


def spectral_norm_batched(
    weights: Tensors,
    us: Tensors,
    *,
    vs: Tensors | None = None,
    eps: float = 1e-12,
    num_iters: int = 1,
    training: bool = True,
    dim: int | Sequence[int] = 0,
    order: str = "v",
    sigmas: Tensors | None = None,
    backend: str | None = None,
) -> list[torch.Tensor]:
    """Divides each weight, a matrix W [O, K], by its largest singular value sigma = u^T W v, by power iteration.

    One iteration is v = n(W^T u), u = n(W v) with n(a) = a / max(|a|, eps), for order='u' in the reverse order.
    In training num_iters of them run, and u (and v where there is a buffer for it) are written back, in place.
    Otherwise the vectors in the buffers are used as they are; without `vs`, one iteration runs and is not written back.

    Args:
        weights: Tensors [O, ...] of one floating-point dtype on one device, each with two dimensions at least.
        us: Buffers of O numbers each, [O] (torch, StudioGAN) or [1, O] (BigGAN-PyTorch); of the dtype of the weights or
            float32, contiguous.
        vs: Buffers of K numbers each; None recomputes v at every call (BigGAN-PyTorch).
        eps: Smallest norm to divide a vector by.
        num_iters: Power iterations per call in training.
        training: Whether the buffers are renewed.
        dim: Dimension of the weights that O is, one for all or one for each; 1 for a transposed convolution.
        order: 'v' renews v first (BigGAN-PyTorch, `torch.nn.utils.spectral_norm`), 'u' renews u first
            (`torch.nn.utils.parametrizations.spectral_norm`) and needs `vs`.
        sigmas: Buffers of one number each that receive sigma in training, or None.
        backend: 'native', 'triton' or 'eager'; None chooses.

    Returns:
        The normalised weights, a list, of the dtype and shape of the weights.

    Raises:
        TypeError: a tensor is not of a dtype named above, or not all weights are of one dtype;
            an argument that should be one is no list of tensors, or eps is not a number.
        ValueError: numbers of tensors or shapes do not fit, num_iters is out of range, eps is negative, `order`
            is unknown.
        RuntimeError: the backend was forced and cannot run.

    Gradients: the weights, to any order; u and v are constants: dW = (dY - sum(dY * Y) u v^T) / sigma.
    Backends: native (CPU), triton, eager. Arithmetic in float32 for 16-bit types.
    Source: Miyato et al., "Spectral Normalization for Generative Adversarial Networks", 2018, section 2 and appendix A.
    """
    vs = [] if vs is None else vs
    for name, tensors in (("weights", weights), ("us", us), ("vs", vs), ("sigmas", [] if sigmas is None else sigmas)):
        checks.check_tensors(OP, name, tensors)
    checks.check_number(OP, "eps", eps)
    if not eps >= 0:
        raise checks.bad_value(OP, "eps", "be at least 0", eps)
    dims = list(dim) if isinstance(dim, Sequence) else [dim] * len(weights)
    _check(weights, us, vs, num_iters, dims, order, sigmas)
    if len(weights) == 0:
        return []
    chosen = dispatch.choose(OP, weights[0].device.type, backend)
    by_pixel = not vs  # no buffer says in which order v counts the elements of a row
    matrices = [_rows_first(w, d, by_pixel) for w, d in zip(weights, dims, strict=True)]
    options = (order, float(eps), num_iters, bool(training))
    if chosen == "eager":
        normalised, sigma = reference.spectral_norm_batched(matrices, us, vs, *options)
    else:
        ops = library.ops(chosen)
        constants = ops.spectral_norm_batched_iterate([m.detach() for m in matrices], list(us), list(vs), *options)
        normalised, sigma = ops.spectral_norm_batched(matrices, *constants)
    if training and sigmas is not None:
        values = sigma.detach().split(1)
        torch._foreach_copy_(list(sigmas), [v.view_as(s) for v, s in zip(values, sigmas, strict=True)])
    return [_back(y, w, d, by_pixel) for y, w, d in zip(normalised, weights, dims, strict=True)]


def _is_channels_last(weight: torch.Tensor) -> bool:
    return weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)


def _rows_first(weight: torch.Tensor, dim: int, by_pixel: bool) -> torch.Tensor:
    """The weight with O in front, contiguous; without a copy where that is possible."""
    if dim != 0:
        weight = weight.movedim(dim, 0)
    if weight.is_contiguous():
        return weight
    return weight.permute(0, 2, 3, 1) if by_pixel and _is_channels_last(weight) else weight.contiguous()


def _back(y: torch.Tensor, weight: torch.Tensor, dim: int, by_pixel: bool) -> torch.Tensor:
    """The reverse, as far as the shape goes."""
    moved = weight.movedim(dim, 0) if dim != 0 else weight
    if by_pixel and not moved.is_contiguous() and _is_channels_last(moved):
        y = y.permute(0, 3, 1, 2)
    return y.movedim(0, dim) if dim != 0 else y


def _check(weights: Any, us: Any, vs: Any, num_iters: Any, dims: list[int], order: Any, sigmas: Any) -> None:
    number = len(weights)
    for name, values in (("us", us), ("vs", vs or us), ("sigmas", us if sigmas is None else sigmas), ("dim", dims)):
        if len(values) != number:
            raise checks.bad_value(OP, name, f"have one element for each of {number} weights", len(values))
    if not checks.is_integer(num_iters) or num_iters < 1:
        raise checks.bad_value(OP, "num_iters", "be an integer of at least 1", repr(num_iters))
    if num_iters >= 2**31:
        raise checks.bad_value(OP, "num_iters", "be below 2^31", num_iters)
    if order not in ("v", "u"):
        raise checks.bad_value(OP, "order", "be 'v' or 'u'", repr(order))
    if order == "u" and not vs:
        raise checks.bad_value(OP, "vs", "be given for order='u'", None)
    for i, (weight, dim) in enumerate(zip(weights, dims, strict=True)):
        checks.check_floating(OP, f"weights[{i}]", weight)
        if weight.dtype != weights[0].dtype:
            raise checks.bad_type(
                OP, f"weights[{i}]", f"be of the dtype of the first, {weights[0].dtype}", weight.dtype
            )
        if weight.ndim < 2 or weight.numel() == 0:
            raise checks.bad_value(
                OP, f"weights[{i}]", "have two dimensions and an element at least", list(weight.shape)
            )
        if not checks.is_integer(dim) or not 0 <= dim < weight.ndim:
            raise checks.bad_value(OP, "dim", f"be in [0, {weight.ndim}) for weights[{i}]", repr(dim))
        rows = weight.shape[dim]
        _check_buffer(f"us[{i}]", us[i], weight, rows)
        if vs:
            _check_buffer(f"vs[{i}]", vs[i], weight, weight.numel() // rows)
        if sigmas is not None and sigmas[i].numel() != 1:
            raise checks.bad_value(OP, f"sigmas[{i}]", "have one element", list(sigmas[i].shape))


def _check_buffer(name: str, buffer: Any, weight: torch.Tensor, size: int) -> None:
    checks.check_floating(OP, name, buffer)
    checks.check_same_device(OP, name, buffer, weight)
    if buffer.dtype not in (weight.dtype, torch.float32):
        raise checks.bad_type(OP, name, f"be of the dtype of the weights, {weight.dtype}, or float32", buffer.dtype)
    if buffer.numel() != size or not buffer.is_contiguous():
        raise checks.bad_value(OP, name, f"be contiguous and have {size} elements", list(buffer.shape))


def _fake_iterate(weights: list[torch.Tensor], *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    vectors = sum(w.shape[0] + w.numel() // w.shape[0] for w in weights)
    dtype = torch.float64 if weights[0].dtype == torch.float64 else torch.float32
    return weights[0].new_empty([vectors], dtype=dtype), weights[0].new_empty([len(weights)], dtype=dtype)


# The vectors u, v of all layers in one tensor, which the gradient needs as they are now, and sigma of each layer.
library.define(
    f"{OP}_iterate",
    "(Tensor[] weights, Tensor(a!)[] us, Tensor(b!)[] vs, str order, float eps, int num_iters, bool training) "
    "-> (Tensor, Tensor)",
    fake=_fake_iterate,
    module=OP,
)


def _setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    normalised, sigma = output
    ctx.save_for_backward(*normalised, inputs[1], sigma)


def _backward(ctx: Any, ops: Any, dys: list, dsigma: torch.Tensor | None) -> tuple:
    *ys, uv, sigma = ctx.saved_tensors
    dys = [torch.zeros_like(y) if dy is None else dy for y, dy in zip(ys, dys, strict=True)]
    return ops.spectral_norm_batched_backward(dys, ys, uv, sigma, dsigma), None, None


# sigma comes out again as a function of the weights, for the second derivative.
library.define(
    OP,
    "(Tensor[] weights, Tensor uv, Tensor sigma) -> (Tensor[], Tensor)",
    fake=lambda weights, uv, sigma: ([torch.empty_like(w) for w in weights], torch.empty_like(sigma)),
    setup_context=_setup_context,
    backward=_backward,
)


def _setup_backward_context(ctx: Any, inputs: tuple, output: list[torch.Tensor]) -> None:
    dys, ys, uv, sigma, dsigma = inputs
    ctx.save_for_backward(*dys, *ys, uv, sigma, dsigma)


def _backward_backward(ctx: Any, ops: Any, ddws: list) -> tuple:
    """Of dW = (dY - r u v^T) / sigma with r = sum(dY * Y) - sigma dsigma, in plain PyTorch: no penalty comes here."""
    *tensors, uv, sigma, dsigma = ctx.saved_tensors
    dys, ys = tensors[: len(ddws)], tensors[len(ddws) :]
    grad_dys, grad_ys, grad_sigmas, grad_dsigmas, at = [], [], [], [], 0
    for i, (dy, y, ddw) in enumerate(zip(dys, ys, ddws, strict=True)):
        rows, columns = y.shape[0], y.numel() // y.shape[0]
        u, v = uv[at : at + rows], uv[at + rows : at + rows + columns]
        at += rows + columns
        dy, y = dy.to(uv.dtype), y.to(uv.dtype)
        ddw = torch.zeros_like(y) if ddw is None else ddw.to(uv.dtype)
        ds = uv.new_zeros([]) if dsigma is None else dsigma[i]
        p = torch.dot(u, torch.mv(ddw.flatten(1), v))
        r = (dy * y).sum() - sigma[i] * ds
        grad_dys.append(((ddw - p * y) / sigma[i]).to(dys[i].dtype))
        grad_ys.append((-p / sigma[i] * dy).to(ys[i].dtype))
        grad_sigmas.append((r * p - (ddw * dy).sum()) / sigma[i] ** 2 + p * ds / sigma[i])
        grad_dsigmas.append(p)
    return (
        grad_dys,
        grad_ys,
        None,
        torch.stack(grad_sigmas),
        None if dsigma is None else torch.stack(grad_dsigmas),
    )


library.define(
    f"{OP}_backward",
    "(Tensor[] dys, Tensor[] ys, Tensor uv, Tensor sigma, Tensor? dsigma) -> Tensor[]",
    fake=lambda dys, ys, uv, sigma, dsigma: [torch.empty_like(y) for y in ys],
    setup_context=_setup_backward_context,
    backward=_backward_backward,
)
