"""noise_injection: noise added to every channel."""

from __future__ import annotations

from typing import Any

import torch

from gankern import checks
from gankern.ops.styled_bias_act import styled_bias_act


def noise_injection(
    x: torch.Tensor, noise: torch.Tensor, strength: torch.Tensor | float = 1, *, backend: str | None = None
) -> torch.Tensor:
    """Adds one picture of noise to all channels, each with its strength: y[n, c] = x[n, c] + strength[c] * noise[n].

    Args:
        x: Input [N, C, H, W]; float64, float32, bfloat16 or float16, any strides.
        noise: [H, W], [1, 1, H, W] or [N, 1, H, W], of the dtype of x or float32.
        strength: A scalar tensor [] or one factor per channel [C], of the dtype of x or float32; or a number.
        backend: 'native', 'triton' or 'eager'; None chooses.

    Returns:
        Tensor [N, C, H, W] of the dtype of x, channels_last if x is.

    Raises:
        TypeError: a tensor is not of a dtype named above.
        ValueError: a shape does not fit.
        RuntimeError: the backend was forced and cannot run.

    Gradients: x, noise and strength, to any order.
    Backends: those of `styled_bias_act`, whose kernel it is.
    Source: Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019, figure 1b.
    """
    op = "noise_injection"
    checks.check_image(op, x)
    checks.check_tensor(op, "noise", noise)
    return styled_bias_act(x, None, noise, _as_tensor(op, strength, x), backend=backend)


def _as_tensor(op: str, strength: Any, x: torch.Tensor) -> torch.Tensor | None:
    if isinstance(strength, torch.Tensor):
        return strength
    checks.check_number(op, "strength", strength)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return None if strength == 1 else torch.full([], float(strength), dtype=dtype, device=x.device)
