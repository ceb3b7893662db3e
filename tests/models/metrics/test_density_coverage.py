"""Density and coverage."""

from __future__ import annotations

import pytest
import torch

from gankern.models.metrics.density_coverage import density_coverage


def test_equal_sets_are_covered_and_disjoint_sets_are_not() -> None:
    x = torch.randn(200, 5)
    # strictly inside a ball lie its centre and the k - 1 nearest others: k points, so that the density is exactly 1
    assert density_coverage(x, x.flip(0)) == pytest.approx((1.0, 1.0))
    assert density_coverage(x, x + 1000) == (0.0, 0.0)


def test_it_counts_balls_as_defined() -> None:
    real = torch.tensor([[0.0], [1.0], [3.0], [7.0]])  # radii for k = 1: 1, 1, 2, 4
    fake = torch.tensor([[0.5], [2.5], [100.0]])
    # 0.5 lies in the balls of 0 and 1; 2.5 in that of 3; the edges at 1 and 3 are outside
    found = density_coverage(real, fake, k=1)
    assert found == pytest.approx((3 / 3, 3 / 4))


def test_an_outlier_among_the_reals_does_not_spoil_density() -> None:
    real = torch.cat([torch.rand(500, 2), torch.tensor([[50.0, 50.0]])])
    far = torch.rand(200, 2) * 0.1 + 30  # inside the huge ball of the outlier alone
    assert density_coverage(real, far).density == pytest.approx(1 / 5)


def test_neither_order_nor_block_changes_it() -> None:
    real, fake = torch.randn(150, 6, dtype=torch.float64), torch.randn(130, 6, dtype=torch.float64) + 0.7
    expected = density_coverage(real, fake)
    assert density_coverage(real[torch.randperm(150)], fake[torch.randperm(130)]) == expected
    assert density_coverage(real, fake, block=17) == expected


def test_it_agrees_with_nearest_neighbours_of_scikit_learn() -> None:
    neighbors = pytest.importorskip("sklearn.neighbors", reason="scikit-learn is not installed")
    real, fake = torch.randn(200, 4, dtype=torch.float64), torch.randn(150, 4, dtype=torch.float64) + 0.5
    radii = neighbors.NearestNeighbors(n_neighbors=6).fit(real.numpy()).kneighbors(real.numpy())[0][:, 5]
    hits = (real[:, None] - fake[None]).norm(dim=2).numpy() < radii[:, None]
    expected = (hits.sum() / (5 * 150), hits.any(axis=1).mean())
    assert density_coverage(real, fake) == pytest.approx(expected, rel=1e-6)
