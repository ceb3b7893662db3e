"""Improved precision and recall: how many samples look real, and how many real images the samples cover."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .neighbours import BLOCK, centred, inside, kth_distances

NUM_IMAGES = 50_000
K = 3


class PrecisionRecall(NamedTuple):
    """What `precision_recall` finds."""

    precision: float
    recall: float
    f1: float  # their harmonic mean


def precision_recall(
    real: Tensor, fake: Tensor, k: int = K, strict: bool = False, block: int = BLOCK
) -> PrecisionRecall:
    """Precision: share of the fakes in the ball of some real; recall: share of the reals in the ball of some fake.

    A feature's ball reaches to its k-th nearest neighbour in its own set.

    Args:
        real: Features [N, F]; for the published figures 50,000, the 4096 of VGG16's second dense layer.
        fake: Features [M, F].
        k: Neighbours: 3 as published; 5 is usual with other features.
        strict: Leave a ball's edge out. As published, it belongs to the ball.
        block: Rows of distances in memory at a time.

    Raises:
        ValueError: The widths differ or there are too few features.

    Source: Kynkaanniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", 2019,
        equations 1 to 3.
    """
    real, fake = centred("precision_recall", real, fake, k)
    in_real, _ = inside(fake, real, kth_distances(real, k, block), strict, block)
    in_fake, _ = inside(real, fake, kth_distances(fake, k, block), strict, block)
    precision, recall = (in_real > 0).double().mean().item(), (in_fake > 0).double().mean().item()
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return PrecisionRecall(precision, recall, f1)
