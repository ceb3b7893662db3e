"""FID: Frechet distance between two sets of features, each described by its mean and covariance."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ranks import gather_rows

NUM_IMAGES = 50_000


class Moments:
    """Count, mean and scatter of features in float64, collected batch by batch; sets can be merged."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(0, dtype=torch.float64)  # [F]
        self.scatter = torch.zeros(0, 0, dtype=torch.float64)  # [F, F], sum of (x - mean) (x - mean)^T

    def add(self, features: Tensor) -> None:
        """Adds features [n, F] of any floating dtype.

        Raises:
            ValueError: They are no matrix, or of another width than before.
        """
        if features.ndim != 2 or (self.count and features.shape[1] != len(self.mean)):
            width = len(self.mean) if self.count else "F"
            raise ValueError(f"fid: features must be [n, {width}], got {list(features.shape)}")
        if not len(features):
            return
        x = features.double()
        mean = x.mean(0)
        centred = x - mean
        self._merge(len(x), mean, centred.T @ centred)

    def merge(self, other: Moments) -> None:
        """Adds what another one has seen."""
        if other.count:
            self._merge(other.count, other.mean, other.scatter)

    def gather(self) -> Moments:
        """The moments over all ranks, the same on each."""
        seen = self.count > 0
        counts = gather_rows(torch.tensor([self.count]) if seen else None)
        means = gather_rows(self.mean[None] if seen else None)
        scatters = gather_rows(self.scatter[None] if seen else None)
        total = Moments()
        for count, mean, scatter in zip(counts.tolist(), means, scatters):
            total._merge(count, mean, scatter)
        return total

    def cov(self) -> Tensor:
        """Unbiased covariance: float64 [F, F].

        Raises:
            ValueError: There are fewer than two features.
        """
        if self.count < 2:
            raise ValueError(f"fid: a covariance needs at least 2 features, got {self.count}")
        return self.scatter / (self.count - 1)

    def state_dict(self) -> dict[str, Tensor]:
        return {"count": torch.tensor(self.count), "mean": self.mean.cpu(), "scatter": self.scatter.cpu()}

    @staticmethod
    def from_state_dict(state: dict[str, Tensor]) -> Moments:
        moments = Moments()
        moments._merge(int(state["count"]), state["mean"], state["scatter"])
        return moments

    def _merge(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        """Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979."""
        if not self.count:
            self.count, self.mean, self.scatter = count, mean, scatter
            return
        total = self.count + count
        delta = mean - self.mean  # [F]
        self.scatter = self.scatter + scatter + torch.outer(delta, delta) * (self.count * count / total)
        self.mean = self.mean + delta * (count / total)
        self.count = total


def fid(real: Moments, fake: Moments) -> float:
    """Frechet distance between the two sets: see `frechet_distance`; covariances unbiased, as published.

    Args:
        real, fake: Moments of features; for the published figures of 50,000 generated images and all real ones, in the
            2048 features of the Inception network of 2015-12-05.

    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017,
        section 3.
    """
    return frechet_distance(real.mean, real.cov(), fake.mean, fake.cov())


def feature_distance(a: Tensor, b: Tensor) -> float:
    """The same between features [N, F] and [M, F]."""
    real, fake = Moments(), Moments()
    real.add(a)
    fake.add(b)
    return fid(real, fake)


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """|mean_a - mean_b|^2 + Tr(cov_a + cov_b - 2 (cov_a cov_b)^(1/2)), in float64 and by eigenvalues.

    Args:
        mean_a, mean_b: [F].
        cov_a, cov_b: [F, F], symmetric, positive semidefinite.

    Returns:
        The distance, at least 0 up to rounding.

    Raises:
        ValueError: The shapes do not fit.

    Source: Dowson and Landau, "The Frechet Distance between Multivariate Normal Distributions", 1982, equation 4.
    """
    if mean_a.shape != mean_b.shape or cov_a.shape != cov_b.shape or cov_a.shape != (*mean_a.shape, *mean_a.shape):
        got = f"{list(mean_a.shape)}, {list(cov_a.shape)} and {list(mean_b.shape)}, {list(cov_b.shape)}"
        raise ValueError(f"fid: means and covariances must be [F] and [F, F], got {got}")
    mean_a, cov_a, mean_b, cov_b = (x.double().cpu() for x in (mean_a, cov_a, mean_b, cov_b))
    # the roots of the eigenvalues of cov_a cov_b are the singular values of root_a root_b; no root is taken of a
    # product, whose rounding errors a root would enlarge to 1e-8 where there are fewer features than dimensions
    cross = torch.linalg.svdvals(_root(cov_a) @ _root(cov_b)).sum()
    mean = (mean_a - mean_b).square().sum()
    return (mean + cov_a.trace() + cov_b.trace() - 2 * cross).item()


def _root(cov: Tensor) -> Tensor:
    """The symmetric square root [F, F] of a covariance."""
    values, vectors = torch.linalg.eigh(cov)
    return vectors * values.clamp_min(0).sqrt() @ vectors.T
