"""Gradient penalties in plain PyTorch, as formulas of the gradient that they penalise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch


def squared_gradient_norms(D: Callable[..., torch.Tensor], x: torch.Tensor, *args: Any) -> torch.Tensor:
    """|d D(x) / d x|^2 of each sample [N]: R1 where x is real, R2 where it is generated."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(D(x, *args).sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(1)


def wgan_gp_penalty(
    D: Callable[..., torch.Tensor], real: torch.Tensor, fake: torch.Tensor, *args: Any, target: float
) -> torch.Tensor:
    """(|d D(x) / d x| - target)^2 of each sample [N], x at a random place between a real and a generated one."""
    place = torch.rand([len(real)] + [1] * (real.ndim - 1), dtype=real.dtype, device=real.device)
    x = real.detach() * (1 - place) + fake.detach() * place
    return (squared_gradient_norms(D, x, *args).sqrt() - target).square()


def path_length_penalty(img: torch.Tensor, ws: torch.Tensor, pl_mean: torch.Tensor, decay: float) -> torch.Tensor:
    """(length - mean)^2 of each sample [N]; moves the running mean."""
    noise = torch.randn_like(img) / math.sqrt(img.shape[2] * img.shape[3])
    (gradient,) = torch.autograd.grad((img * noise).sum(), ws, create_graph=True)  # [N, num_ws, w_dim]
    lengths = gradient.square().sum(2).mean(1).sqrt()  # [N]
    mean = pl_mean + decay * (lengths.mean() - pl_mean)
    pl_mean.copy_(mean.detach())
    return (lengths - mean).square()
