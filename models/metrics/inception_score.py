"""Inception Score: how sure a classifier is of each generated image, and how evenly its classes are used."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NUM_IMAGES = 50_000
SPLITS = 10


class InceptionScore(NamedTuple):
    """What `inception_score` finds."""

    inception_score: float  # mean over the splits
    inception_score_std: float  # deviation over the splits


def inception_score(probabilities: Tensor, splits: int = SPLITS) -> InceptionScore:
    """exp(mean_x KL(p(y | x) || p(y))) for each of `splits` parts in the images' order, in float64.

    Args:
        probabilities: Class probabilities of generated images [N, K]; for the published figures of 50,000 images, the
            softmax over the 1,008 outputs, without their bias, of the Inception network of 2015-12-05.
        splits: Parts of nearly equal size: 10 as published; others use 1, or shuffle first.

    Returns:
        Mean and deviation over the parts: from 1 (all images alike) to K (sure, and every class as often).

    Raises:
        ValueError: They are no probabilities, or there are fewer than splits.

    Source: Salimans et al., "Improved Techniques for Training GANs", 2016, section 4.
    """
    if probabilities.ndim != 2 or not 1 <= splits <= len(probabilities):
        raise ValueError(f"inception_score: expected [N, K] with N >= {splits} splits, got {list(probabilities.shape)}")
    p = probabilities.double()
    if p.min() < 0 or (p.sum(1) - 1).abs().max() > 1e-3:
        raise ValueError(
            "inception_score: probabilities must be at least 0 and sum to 1 in each row (take the softmax)"
        )
    n = len(p)
    scores = []
    for k in range(splits):
        part = p[k * n // splits : (k + 1) * n // splits]  # [n, K]
        # KL(p || q) averaged over the part, q being its mean, is entropy(q) - mean entropy(p); 0 log 0 is 0
        kl = torch.special.entr(part.mean(0)).sum() - torch.special.entr(part).sum(1).mean()
        scores.append(kl.exp())
    found = torch.stack(scores)
    return InceptionScore(found.mean().item(), found.std(correction=0).item())
