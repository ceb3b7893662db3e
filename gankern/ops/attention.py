"""attention: softmax attention of every query over all keys, twice differentiable; self_attention2d: over pixels."""

from __future__ import annotations

from typing import Any

import torch

from gankern import checks
from gankern.reference import attention as reference


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """Averages the values of all keys, weighted by their likeness to the query: softmax(scale * q k^T) v.

    The matrix of weights [N, L, S] is kept in memory for the backward pass.

    Args:
        q: Queries [N, L, D]; float64, float32, bfloat16 or float16, any strides.
        k: Keys [N, S, D] with S >= 1, of the dtype of q.
        v: Values [N, S, E], of the dtype of q.
        scale: Factor of the products; 1, not 1 / sqrt(D), is the default, as in SAGAN and BigGAN.

    Returns:
        Tensor [N, L, E] of the dtype of q.

    Raises:
        TypeError: a tensor is not of a dtype named above, or scale is not a number.
        ValueError: the shapes do not fit.

    Gradients: q, k and v, to any order.
    Backends: eager: two matrix products and a softmax. torch's own fused attention has no second derivative.
    Source: Zhang et al., "Self-Attention Generative Adversarial Networks", 2019, section 3.
    """
    _check(q, k, v, scale)
    return reference.attention(q, k, v, float(scale))


def self_attention2d(theta: torch.Tensor, phi: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """`attention` of every pixel of theta over all pixels of phi and g, without a scale.

    Args:
        theta: Queries [N, D, H, W]; C / 8 channels in SAGAN and BigGAN. Dtypes and strides as in `attention`.
        phi: Keys [N, D, H', W'], max-pooled there.
        g: Values [N, E, H', W'], max-pooled there, with C / 2 channels.

    Returns:
        Tensor [N, E, H, W] of the dtype of theta; channels_last if theta is, else contiguous.

    Raises:
        TypeError, ValueError: As in `attention`.

    Gradients: theta, phi and g, to any order.
    Backends: eager.
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
    y = attention(q, k, v).mT.unflatten(2, theta.shape[2:])  # [N, E, H, W]
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
