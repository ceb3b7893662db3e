"""attention: softmax attention of every query over all keys, twice differentiable; self_attention2d: over pixels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch

from gankern import checks, convolution, dispatch, library
from gankern.reference import attention as reference


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float = 1.0, *, backend: str | None = None
) -> torch.Tensor:
    """Averages the values of all keys, weighted by their likeness to the query: softmax(scale * q k^T) v.

    The native backend never holds the matrix of weights [N, L, S]: forward and backward make it block by block, and
    backward makes it again. The second derivative is plain PyTorch, and does hold some such matrices. On the CPU all
    but float64 is computed in float32.

    Args:
        q: Queries [N, L, D]; float64, float32, bfloat16 or float16, any strides.
        k: Keys [N, S, D] with S >= 1, of the dtype of q.
        v: Values [N, S, E], of the dtype of q.
        scale: Factor of the products; 1, not 1 / sqrt(D), is the default, as in SAGAN and BigGAN.
        backend: 'native' or 'eager'; None chooses, and takes eager where all the weights are no larger than a block.

    Returns:
        Tensor [N, L, E] of the dtype of q, contiguous.

    Raises:
        TypeError: a tensor is not of a dtype named above, or scale is not a number.
        ValueError: the shapes do not fit.
        RuntimeError: the backend was forced and cannot run.

    Gradients: q, k and v, to any order.
    Backends: native (a kernel on the CPU; torch's matrix products over blocks of queries on CUDA and in float64),
        eager. torch's own fused attention has no second derivative.
    Source: Zhang et al., "Self-Attention Generative Adversarial Networks", 2019, section 3; recomputed block by block
        as in Rabe and Staats, "Self-attention Does Not Need O(n^2) Memory", 2021.
    """
    _check(q, k, v, scale)
    chosen = dispatch.choose("attention", q.device.type, backend)
    if chosen != "eager" and (dispatch.is_forced(backend) or not _is_one_block(q, k)):
        return library.ops(chosen).attention(q, k, v, float(scale))
    return reference.attention(q, k, v, float(scale))


def self_attention2d(
    theta: torch.Tensor, phi: torch.Tensor, g: torch.Tensor, *, backend: str | None = None
) -> torch.Tensor:
    """`attention` of every pixel of theta over all pixels of phi and g, without a scale.

    Args:
        theta: Queries [N, D, H, W]; C / 8 channels in SAGAN and BigGAN. Dtypes and strides as in `attention`.
        phi: Keys [N, D, H', W'], max-pooled there.
        g: Values [N, E, H', W'], max-pooled there, with C / 2 channels.
        backend: As in `attention`.

    Returns:
        Tensor [N, E, H, W] of the dtype of theta; channels_last if theta is, else contiguous.

    Raises:
        TypeError, ValueError, RuntimeError: As in `attention`.

    Gradients: theta, phi and g, to any order.
    Backends: As in `attention`.
    Source: Zhang et al., "Self-Attention Generative Adversarial Networks", 2019, section 3; Brock et al., "Large Scale
        GAN Training for High Fidelity Natural Image Synthesis", 2019, appendix B.
    """
    for name, t in {"theta": theta, "phi": phi, "g": g}.items():
        checks.check_floating("self_attention2d", name, t)
        if t.ndim != 4:
            raise checks.bad_value("self_attention2d", name, "have 4 dimensions [N, C, H, W]", list(t.shape))
    if phi.shape[2:] != g.shape[2:]:
        expected = f"have the height and width of phi, {list(phi.shape[2:])}"
        raise checks.bad_value("self_attention2d", "g", expected, list(g.shape[2:]))
    q, k, v = (t.flatten(2).mT for t in (theta, phi, g))  # [N, pixels, channels]
    y = attention(q, k, v, backend=backend).mT.unflatten(2, theta.shape[2:])  # [N, E, H, W]
    channels_last = not theta.is_contiguous() and theta.is_contiguous(memory_format=torch.channels_last)
    return y.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _check(q: Any, k: Any, v: Any, scale: Any) -> None:
    for name, t in {"q": q, "k": k, "v": v}.items():
        checks.check_floating("attention", name, t)
        if t.ndim != 3:
            raise checks.bad_value("attention", name, "have 3 dimensions [N, length, channels]", list(t.shape))
        if t.dtype != q.dtype:
            raise checks.bad_type("attention", name, f"be of the dtype of q, {q.dtype}", t.dtype)
        checks.check_same_device("attention", name, t, q)
    checks.check_number("attention", "scale", scale)
    n, _, d = q.shape
    if k.shape[0] != n or k.shape[1] < 1 or k.shape[2] != d:
        expected = f"have shape [N, S, D] = [{n}, S, {d}] with S >= 1"
        raise checks.bad_value("attention", "k", expected, f"{list(k.shape)} (q is {list(q.shape)})")
    if v.shape[:2] != k.shape[:2]:
        expected = f"have shape [N, S, E] = [{n}, {k.shape[1]}, E]"
        raise checks.bad_value("attention", "v", expected, list(v.shape))


# A block of queries has so many weights, of so many samples as fit: what stays in the CPU's last cache. A smaller one,
# for the cache of one core, costs more on several threads, which meet after every product.
_BLOCK = {"cpu": 2**20, "cuda": 2**24}


def _is_one_block(q: torch.Tensor, k: torch.Tensor) -> bool:
    """Where recomputing saves no memory worth its time; plain PyTorch is slow without instructions all the same."""
    batch, length, keys = (dispatch.known_size(size) for size in (*q.shape[:2], k.shape[1]))
    return not _is_converted(q) and batch * length * keys <= _BLOCK.get(q.device.type, 0)


def _blocks(q: torch.Tensor, k: torch.Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of the batch and of the queries."""
    (n, length, _), s, block = q.shape, k.shape[1], _BLOCK[q.device.type]
    rows = max(1, min(length, block // s))
    samples = max(1, block // (rows * s))
    for first in range(0, n, samples):
        for row in range(0, length, rows):
            yield slice(first, min(n, first + samples)), slice(row, min(length, row + rows))


def _operands(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """In float32 on a CPU without instructions for their type, whose products are slow and round every result."""
    return [(t.float() if _is_converted(t) else t).contiguous() for t in tensors]


def _is_converted(t: torch.Tensor) -> bool:
    is_16_bit = t.dtype in (torch.bfloat16, torch.float16)
    return is_16_bit and t.device.type == "cpu" and t.dtype in convolution.LACKING


def _has_kernel(t: torch.Tensor) -> bool:
    return t.device.type == "cpu" and t.dtype != torch.float64 and _is_built()


@cache
def _is_built() -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key("gankern::attention_rows", "CPU")


class _Scratch:
    """Matrices that all blocks share; a block at the end of a batch may be smaller."""

    def __init__(self, q: torch.Tensor, k: torch.Tensor) -> None:
        self.s = k.shape[1]
        self.values = q.new_empty([min(q.shape[0] * q.shape[1], max(1, _BLOCK[q.device.type] // self.s)) * self.s])

    def __call__(self, q: torch.Tensor) -> torch.Tensor:
        return self.values[: q.shape[0] * q.shape[1] * self.s].view(q.shape[0], q.shape[1], self.s)


def _compute(ops: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    dtype = q.dtype
    if _has_kernel(q):
        return ops.attention_rows(*(t.float().contiguous() for t in (q, k, v)), scale).to(dtype)
    q, k, v = _operands(q, k, v)
    y = q.new_empty([q.shape[0], q.shape[1], v.shape[2]])
    scores, weights = _Scratch(q, k), _Scratch(q, k)
    for n, rows in _blocks(q, k):
        own = q[n, rows]
        products = scores(own).baddbmm_(own, k[n].mT, beta=0, alpha=scale)
        torch.bmm(torch.softmax(products, -1, out=weights(own)), v[n], out=y[n, rows])
    return y.to(dtype)


def _compute_backward(
    ops: Any, dy: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, y: torch.Tensor, scale: float
) -> tuple[torch.Tensor, ...]:
    dtype = q.dtype
    if _has_kernel(q):
        found = ops.attention_rows_backward(*(t.float().contiguous() for t in (dy, q, k, v)), scale)
        return tuple(t.to(dtype) for t in found)
    dy, q, k, v, y = _operands(dy, q, k, v, y)
    dq = q.new_empty(q.shape)
    total = torch.float64 if dtype == torch.float64 else torch.float32
    # Turned: to a product [S, rows] x [rows, D] with few D the libraries give up to ten times the time of the same one
    # as [D, rows] x [rows, S].
    k_turned = k.mT.contiguous()  # [N, D, S]
    dk, dv = (t.new_zeros(t.mT.shape, dtype=total) for t in (k, v))  # [N, D, S], [N, E, S]
    first, second = _Scratch(q, k), _Scratch(q, k)
    for n, rows in _blocks(q, k):
        own, gradient = q[n, rows], dy[n, rows]
        products = first(own).baddbmm_(own, k[n].mT, beta=0, alpha=scale)
        weights = torch.softmax(products, -1, out=second(own))
        _accumulate(dv[n], gradient.mT, weights, 1.0)
        d_weights = torch.bmm(gradient, v[n].mT, out=first(own))
        if q.dtype in (torch.float32, torch.float64):
            subtracted = torch.linalg.vecdot(gradient, y[n, rows])[..., None]  # the sum of weights * d_weights
            d_scores = d_weights.sub_(subtracted).mul_(weights)
        else:  # y is too coarse for that
            d_scores = torch._softmax_backward_data(d_weights, weights, -1, q.dtype)
        torch.mul(torch.bmm(k_turned[n], d_scores.mT).mT, scale, out=dq[n, rows])
        _accumulate(dk[n], own.mT, d_scores, scale)
    return dq.to(dtype), dk.to(dtype).mT.contiguous(), dv.to(dtype).mT.contiguous()


def _accumulate(total: torch.Tensor, a: torch.Tensor, b: torch.Tensor, alpha: float) -> None:
    """total += alpha * a b, whose sum over blocks is in float32 or wider."""
    if a.dtype == total.dtype:
        total.baddbmm_(a, b, alpha=alpha)
    else:
        total.add_(torch.bmm(a, b), alpha=alpha)


def _setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    q, k, v, ctx.scale = inputs
    ctx.save_for_backward(q, k, v, output)


def _backward(ctx: Any, ops: Any, dy: torch.Tensor | None) -> tuple:
    if dy is None:
        return (None,) * 4
    return *ops.attention_backward(dy, *ctx.saved_tensors, ctx.scale), None


library.define(
    "attention",
    "(Tensor q, Tensor k, Tensor v, float scale) -> Tensor",
    fake=lambda q, k, v, scale: q.new_empty([q.shape[0], q.shape[1], v.shape[2]]),
    composite=_compute,
    setup_context=_setup_context,
    backward=_backward,
)


def _setup_backward_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    dy, q, k, v, _, ctx.scale = inputs
    ctx.save_for_backward(dy, q, k, v)


def _backward_backward(ctx: Any, ops: Any, *gradients: torch.Tensor | None) -> tuple:
    """In plain PyTorch, to every order. y follows from q, k and v: it has no gradient of its own."""

    def first(dy: torch.Tensor, *inputs: torch.Tensor) -> tuple:
        q, k, v = _operands(*inputs)
        y = reference.attention(q, k, v, ctx.scale)
        return torch.autograd.grad(y, inputs, dy.to(y.dtype), create_graph=True)

    return *library.differentiate(first, ctx.saved_tensors, gradients), None, None


library.define(
    "attention_backward",
    "(Tensor dy, Tensor q, Tensor k, Tensor v, Tensor y, float scale) -> (Tensor, Tensor, Tensor)",
    fake=lambda dy, q, k, v, y, scale: tuple(t.new_empty(t.shape) for t in (q, k, v)),
    composite=_compute_backward,
    setup_context=_setup_backward_context,
    backward=_backward_backward,
)
library.define(
    "attention_rows",
    "(Tensor q, Tensor k, Tensor v, float scale) -> Tensor",
    fake=lambda q, k, v, scale: q.new_empty([q.shape[0], q.shape[1], v.shape[2]]),
)
library.define(
    "attention_rows_backward",
    "(Tensor dy, Tensor q, Tensor k, Tensor v, float scale) -> (Tensor, Tensor, Tensor)",
    fake=lambda dy, q, k, v, scale: tuple(torch.empty_like(t) for t in (q, k, v)),
)
