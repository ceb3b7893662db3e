"""Density and coverage: precision and recall that a few outliers among the features cannot spoil."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .neighbours import BLOCK, centred, inside, kth_distances

NUM_IMAGES = 50_000
K = 5


class DensityCoverage(NamedTuple):
    """What `density_coverage` finds."""

    density: float  # may exceed 1
    coverage: float


def density_coverage(real: Tensor, fake: Tensor, k: int = K, block: int = BLOCK) -> DensityCoverage:
    """Density: mean number of real balls around a fake, over k; coverage: share of the real balls with a fake inside.

    A real feature's ball reaches to its k-th nearest real neighbour; its edge is outside.

    Args:
        real: Features [N, F].
        fake: Features [M, F].
        k: Neighbours.
        block: Rows of distances in memory at a time.

    Raises:
        ValueError: The widths differ or there are too few features.

    Source: Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", 2020, equations 5 and 6.
    """
    real, fake = centred("density_coverage", real, fake, k)
    around_fake, in_ball = inside(fake, real, kth_distances(real, k, block), strict=True, block=block)
    return DensityCoverage(around_fake.double().mean().item() / k, (in_ball > 0).double().mean().item())
