"""conditional_batch_norm in plain PyTorch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F


def conditional_batch_norm(
    x: torch.Tensor,
    gain: torch.Tensor,
    bias: torch.Tensor,
    mean: torch.Tensor | None,
    var: torch.Tensor | None,
    eps: float,
    relu: bool,
    up: int,
    group: dist.ProcessGroup | None,
    exact: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns y, and the mean and the unbiased variance that a running average takes up.

    Args:
        gain, bias: [N, C], in float32 or wider.
        mean, var: [C], those to use; None takes those of the batch, over all processes of `group`.
        exact: Whether derivatives beyond the second are to be right too; those of torch's batch norm are not.
    """
    if mean is not None and var is not None:  # two numbers per channel: one pass over x
        scale = gain * (var + eps).rsqrt()
        y = _affine(x, scale, bias - mean * scale)
    else:
        total = torch.float64 if x.dtype == torch.float64 else torch.float32
        if group is None and not exact and eps > 0:  # torch's refuses 0
            mean, var = (torch.zeros([x.shape[1]], dtype=total, device=x.device) for _ in range(2))
            x = F.batch_norm(x, mean, var, training=True, momentum=1.0, eps=eps)  # fills mean and var
        else:
            x, mean, var = _normalised(x, eps, group)
        y = _affine(x, gain, bias)
    if relu:
        y = y.relu_()
    if up > 1:  # torch does not interpolate images without channels
        y = F.interpolate(y, scale_factor=up, mode="nearest") if y.numel() > 0 else y.repeat(1, 1, up, up)
    return y, mean, var


def _affine(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """scale * x + shift, with [N, C] numbers."""
    scale, shift = (t.to(x.dtype)[:, :, None, None] for t in (scale, shift))
    return torch.addcmul(shift, x, scale)


def _normalised(
    x: torch.Tensor, eps: float, group: dist.ProcessGroup | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(x - mean) * rstd, the mean and the unbiased variance over the batches of all processes."""
    values = x if x.dtype == torch.float64 else x.float()
    own = torch.tensor(x.numel() / max(1, x.shape[1]), dtype=values.dtype, device=x.device)
    count = all_reduce(own, group)
    mean = all_reduce(values.sum([0, 2, 3]), group) / count  # [C]
    centred = values - mean[:, None, None]
    m2 = all_reduce(centred.square().sum([0, 2, 3]), group)  # [C]
    y = centred * (m2 / count + eps).rsqrt()[:, None, None]
    return y.to(x.dtype), mean.detach(), m2.detach() / (count - 1)


def all_reduce(t: torch.Tensor, group: dist.ProcessGroup | None) -> torch.Tensor:
    """The sum of every process's t; differentiable to any order, if every process differentiates."""
    return t if group is None else _AllReduce.apply(t, group)


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, t: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
        ctx.group = group
        t = t.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(t, group=group)
        return t

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _AllReduce.apply(gradient, ctx.group), None
