"""Linear separability: how well a plane in latent space tells which images have an attribute, and which have not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

NUM_IMAGES, KEPT = 200_000, 100_000


class LinearSeparability(NamedTuple):
    """What `linear_separability` finds."""

    linear_separability: float
    entropies: list[float]  # H(Y | X) of each attribute, in nats


def linear_separability(latents: Tensor, scores: Tensor, kept: int | None = None, seed: int = 0) -> LinearSeparability:
    """exp(sum_i H(Y_i | X_i)): Y_i is what a classifier says of attribute i, X_i what a linear SVM guesses from z or w.

    Args:
        latents: z or w of generated images [N, L]; 200,000 as published.
        scores: For each image and attribute [N, A], positive where the classifier sees it: its log odds, for example.
            As published, of 40 classifiers of CelebA-HQ's attributes.
        kept: Images with the surest scores that are used for each attribute; half of them as published.
        seed: Of the SVM's solver.

    Returns:
        1 where a plane separates every attribute perfectly, more otherwise. An attribute that all images have, or
        none, has no entropy.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
        ValueError: The shapes do not fit.

    Source: Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019,
        section 4.2.
    """
    if latents.ndim != 2 or scores.ndim != 2 or len(latents) != len(scores):
        got = f"{list(latents.shape)} and {list(scores.shape)}"
        raise ValueError(f"linear_separability: latents and scores must be [N, L] and [N, A], got {got}")
    kept = len(scores) // 2 if kept is None else kept
    if not 1 <= kept <= len(scores):
        raise ValueError(f"linear_separability: kept must be in [1, {len(scores)}], got {kept}")
    entropies = []
    for score in scores.T:
        surest = score.abs().topk(kept).indices
        x, y = latents[surest].cpu().numpy(), (score[surest] > 0).cpu().numpy()
        entropies.append(conditional_entropy(y, _svm_says(x, y, seed)))
    return LinearSeparability(float(np.exp(np.sum(entropies))), entropies)


def conditional_entropy(y: np.ndarray, x: np.ndarray) -> float:
    """H(Y | X) in nats of two boolean arrays [N]."""
    joint = torch.zeros(2, 2, dtype=torch.float64)  # of x, y
    for a in (0, 1):
        for b in (0, 1):
            joint[a, b] = float(np.mean((x == a) & (y == b)))
    return (torch.special.entr(joint).sum() - torch.special.entr(joint.sum(1)).sum()).item()


def _svm_says(x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """What a linear support vector machine, fitted to (x, y), says of the same x."""
    if y.all() or not y.any():
        return y
    try:
        from sklearn.svm import LinearSVC
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("linear_separability: needs scikit-learn: pip install 'gankern[metrics]'") from error
    return LinearSVC(random_state=seed).fit(x, y).predict(x)
