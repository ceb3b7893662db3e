"""Adam with the correction for lazy regularisation, and one flat gradient buffer per network."""

import torch
from torch import Tensor, nn


def lazy_adam(
    net: nn.Module, lr: float, betas: tuple[float, float], interval: int, eps: float = 1e-8
) -> torch.optim.Adam:
    """Fused Adam for a network that takes `interval` + 1 steps per `interval` iterations.

    With k = interval: lr * k / (k + 1) and beta ^ (k / (k + 1)).

    Args:
        net: The network.
        lr: Learning rate per iteration.
        betas: Decay rates per iteration.
        interval: Iterations between two regularisation steps; 0 where there are none.
        eps: Added to the root of the second moment.

    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, section B.
    """
    ratio = interval / (interval + 1) if interval else 1.0
    beta1, beta2 = (float(beta) ** ratio for beta in betas)
    return torch.optim.Adam(net.parameters(), lr=lr * ratio, betas=(beta1, beta2), eps=eps, fused=True)


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
