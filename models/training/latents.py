"""Latents to look at: truncated, for generators without a mapping network."""

import torch
from torch import Tensor


def truncated_latents(
    n: int,
    z_dim: int,
    threshold: float | None = None,
    std: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Latents z [n, z_dim] from a normal distribution whose values beyond a threshold are drawn again.

    Args:
        n: Their number.
        z_dim: Their dimension.
        threshold: Largest |z|, e.g. 0.5 for fidelity at the cost of variety; None does not truncate.
        std: Standard deviation of the distribution before it is truncated. BigGAN-PyTorch's `z_var` is this number,
            its name notwithstanding, and its "truncation curves" vary it, without a threshold; the generators on
            TensorFlow Hub are sampled with std t and threshold 2 t.
        generator: Source of the random numbers; its device is that of the result.

    Raises:
        ValueError: A number is not positive.

    Source: Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis", 2019, section 3.1.
    """
    for name, value in (("std", std), ("threshold", threshold)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    z = torch.empty([n, z_dim], device=generator.device if generator else None)
    if threshold is None:
        return z.normal_(0, std, generator=generator)
    return torch.nn.init.trunc_normal_(z, 0, std, -threshold, threshold, generator=generator)
