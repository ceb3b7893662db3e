"""sanitize_gradients in plain PyTorch, one tensor after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def sanitize_gradients(gradients: Sequence[torch.Tensor], nan: float, posinf: float, neginf: float) -> None:
    """Replaces NaN and the infinities, in place."""
    for gradient in gradients:
        torch.nan_to_num(gradient, nan=nan, posinf=posinf, neginf=neginf, out=gradient)
