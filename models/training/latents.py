"""Latents to look at: truncated, for generators without a mapping network."""

import math

import torch
from torch import Tensor


def truncate(z: Tensor, threshold: float = 2.0) -> Tensor:
    """Latents of a normal distribution, moved to that of a normal distribution whose values stay below a threshold.

    Every value keeps its rank: the value x comes out for which Phi(x), counted between the thresholds, is Phi(z). So a
    seed's image changes smoothly with the threshold, as it would not if values beyond were drawn again.

    Args:
        z: Latents [N, z_dim] from N(0, 1).
        threshold: Largest |x|, positive.

    Returns:
        [N, z_dim].

    Raises:
        ValueError: The threshold is not positive.

    Source: Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis", 2019, section 3.1.
    """
    if not threshold > 0:
        raise ValueError(f"threshold must be positive, got {threshold}")
    inside = math.erf(threshold / math.sqrt(2))  # the probability between the thresholds
    return torch.erfinv(inside * torch.erf(z.double() / math.sqrt(2))).mul(math.sqrt(2)).to(z.dtype)
