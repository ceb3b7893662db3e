"""normalize_2nd_moment: pixel norm, the scaling of vectors to unit second moment."""

from __future__ import annotations

from typing import Any

import torch

from gankern import checks
from gankern.reference import normalize_2nd_moment as reference


def normalize_2nd_moment(x: torch.Tensor, dim: int = 1, eps: float = 1e-8) -> torch.Tensor:
    """Scales x to a second moment of one along a dimension: y = x / sqrt(mean(x^2) + eps).

    Args:
        x: Input of any shape with at least one dimension; float64, float32, bfloat16 or float16, any strides.
            A latent [N, z_dim], or an image [N, C, H, W] for the pixel norm over its channels.
        dim: The dimension the mean is taken over.
        eps: Added to the mean, at least 0.

    Returns:
        Tensor of the shape, dtype and memory format of x.

    Raises:
        TypeError: x is not a floating-point tensor of a dtype named above, or eps is not a number.
        ValueError: x is a scalar, `dim` is out of range, eps is negative or NaN.

    Gradients: x, to any order.
    Backends: eager. Arithmetic in float32 for 16-bit types.
    Source: Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018,
        section 4.2 (pixel norm); Karras et al., "A Style-Based Generator Architecture for GANs", 2019 (of z).
    """
    _check(x, dim, eps)
    return reference.normalize_2nd_moment(x, dim, float(eps))


def _check(x: Any, dim: Any, eps: Any) -> None:
    op = "normalize_2nd_moment"
    checks.check_floating(op, "x", x)
    if x.ndim == 0:
        raise checks.bad_value(op, "x", "have at least one dimension", "a scalar tensor")
    if not isinstance(dim, int) or not -x.ndim <= dim < x.ndim:
        raise checks.bad_value(op, "dim", f"be in [{-x.ndim}, {x.ndim}) (x is {list(x.shape)})", repr(dim))
    checks.check_number(op, "eps", eps)
    if not eps >= 0:
        raise checks.bad_value(op, "eps", "be at least 0", eps)
