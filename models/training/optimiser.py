"""Adam with the correction for lazy regularisation, and one flat gradient buffer per network."""

from typing import Any

import torch
from torch import Tensor, nn


def lazy_ratio(interval: int) -> float:
    """k / (k + 1) for a network that takes k + 1 steps per k = `interval` iterations; 1 where it takes one step each.

    Args:
        interval: Iterations between two regularisation steps; 0 where there are none, 1 where regularisation belongs to
            the main step.

    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, section B.
    """
    return interval / (interval + 1) if interval > 1 else 1.0


def lazy_adam(
    net: nn.Module, lr: float, betas: tuple[float, float], interval: int, eps: float = 1e-8
) -> torch.optim.Adam:
    """Fused Adam with the rates lr * ratio and beta ^ ratio, ratio = `lazy_ratio(interval)`.

    Args:
        net: The network.
        lr: Learning rate per iteration.
        betas: Decay rates per iteration.
        interval: As in `lazy_ratio`.
        eps: Added to the root of the second moment.

    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, section B.
    """
    ratio = lazy_ratio(interval)
    beta1, beta2 = (float(beta) ** ratio for beta in betas)
    return torch.optim.Adam(net.parameters(), lr=lr * ratio, betas=(beta1, beta2), eps=eps, fused=True)


def set_lr(opt: torch.optim.Optimizer, lr: float) -> None:
    """Gives every parameter of an optimiser this learning rate, in the memory where a captured graph reads it."""
    for group in opt.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def make_capturable(opt: torch.optim.Optimizer) -> None:
    """Lets an optimiser's steps be captured as CUDA graphs: its learning rates become tensors beside the weights."""
    for group in opt.param_groups:
        device = group["params"][0].device
        group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32).to(device)
        group["capturable"] = device.type == "cuda"


def portable_state(opt: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimiser's state dict as it is without graphs, which loads on any device; `make_capturable` comes after."""
    state = opt.state_dict()
    for group in state["param_groups"]:
        group["lr"] = float(group["lr"])
        group["capturable"] = False
    return state


@torch.no_grad()
def forget_moments(opt: torch.optim.Optimizer) -> None:
    """Makes an optimiser as it was before its first step, in the memory that it has."""
    for state in opt.state.values():
        for tensor in state.values():
            tensor.zero_()


def flatten_gradients(net: nn.Module) -> Tensor:
    """Makes every parameter's .grad a view into one buffer, zeroed and sanitised in one operation each.

    Args:
        net: Network whose parameters are all dense, of one dtype, on one device.

    Returns:
        The buffer [number of parameters].
    """
    params = list(net.parameters())
    flat = torch.zeros(sum(p.numel() for p in params), dtype=params[0].dtype, device=params[0].device)
    for param, part in zip(params, flat.split([p.numel() for p in params]), strict=True):
        param.grad = part.as_strided(param.shape, param.stride())
    return flat
