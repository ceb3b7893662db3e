"""adain: adaptive instance normalisation, by the kernels of style_epilogue."""

from __future__ import annotations

from typing import Any

import torch

from gankern import checks, dispatch, library
from gankern.reference import adain as reference


def adain(
    x: torch.Tensor,
    scale: torch.Tensor | None = None,
    shift: torch.Tensor | None = None,
    eps: float = 1e-8,
    *,
    backend: str | None = None,
) -> torch.Tensor:
    """Normalises every channel of every image over its pixels, then scales and shifts it.

    y = scale * (x - mean) / sqrt(var + eps) + shift, with mean and biased variance over H and W.

    Args:
        x: Images [N, C, H, W]; float64, float32, bfloat16 or float16, any strides.
        scale: [N, C], of the dtype of x or float32; None for 1. StyleGAN's style_mod is scale = 1 + style.
        shift: [N, C], of the dtype of x or float32; None for 0.
        eps: Added to the variance, at least 0.
        backend: 'native', 'triton' or 'eager'; None chooses, by the kernels of style_epilogue.

    Returns:
        Tensor of the shape, dtype and memory format of x.

    Raises:
        TypeError: a tensor is not of a floating-point dtype named above, or eps is not a number.
        ValueError: scale or shift do not fit x, eps is negative or NaN.
        RuntimeError: the backend was forced and cannot run.

    Gradients: x, scale and shift, to any order; the kernels know two.
    Backends: native (CPU), triton, eager. Statistics in at least float32, exact beside a large mean.
    Source: Huang and Belongie, "Arbitrary Style Transfer in Real-Time with Adaptive Instance Normalization", 2017,
        equation 8; Karras et al., "A Style-Based Generator Architecture for GANs", 2019, equation 1.
    """
    checks.check_image("adain", x)
    check_style("adain", x, scale, shift, eps)
    chosen = dispatch.choose("style_epilogue", x.device.type, backend)
    if chosen == "eager":
        return reference.adain(x, scale, shift, float(eps))
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    scale, shift = (None if t is None else t.to(dtype) for t in (scale, shift))
    return library.ops(chosen).style_epilogue(x, None, None, None, scale, shift, 1.0, 1.0, float(eps))[0]


def check_style(op: str, x: torch.Tensor, scale: Any, shift: Any, eps: Any) -> None:
    for name, tensor in (("scale", scale), ("shift", shift)):
        if tensor is None:
            continue
        check_parameter(op, name, tensor, x)
        if tensor.shape != x.shape[:2]:
            expected = f"have shape [N, C] = {list(x.shape[:2])}"
            raise checks.bad_value(op, name, expected, f"{list(tensor.shape)} (x is {list(x.shape)})")
    checks.check_number(op, "eps", eps)
    if not eps >= 0:
        raise checks.bad_value(op, "eps", "be at least 0", eps)


def check_parameter(op: str, name: str, tensor: Any, x: torch.Tensor) -> None:
    checks.check_tensor(op, name, tensor)
    if tensor.dtype not in (x.dtype, torch.float32):
        raise checks.bad_type(op, name, f"be of the dtype of x, {x.dtype}, or float32", tensor.dtype)
    checks.check_same_device(op, name, tensor, x)
