"""ema_update in plain PyTorch, one tensor after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def ema_update(dst: Sequence[torch.Tensor], src: Sequence[torch.Tensor], beta: float | torch.Tensor) -> None:
    """dst = beta * dst + (1 - beta) * src, in place."""
    beta = beta.reshape([]) if isinstance(beta, torch.Tensor) else beta
    for average, value in zip(dst, src, strict=True):
        average.copy_(beta * average + (1 - beta) * value)
