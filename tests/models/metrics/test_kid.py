"""KID."""

from __future__ import annotations

import pytest
import torch

from gankern.models.metrics.kid import kid, mmd2


def test_it_is_the_unbiased_estimate() -> None:
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64) + 1
    k = lambda a, b: (float(a @ b) / 3 + 1) ** 3  # noqa: E731
    within = sum(k(s[i], s[j]) for s in (x, y) for i in range(6) for j in range(6) if i != j) / 30
    between = sum(k(a, b) for a in x for b in y) / 36
    assert mmd2(x, y) == pytest.approx(within - 2 * between, rel=1e-12)


def test_draws_of_one_distribution_are_at_zero_on_average_and_others_are_not() -> None:
    found = torch.tensor([mmd2(*torch.randn(2, 20, 4, dtype=torch.float64)) for _ in range(400)])
    standard_error = found.std().item() / 20
    assert abs(found.mean().item()) < 4 * standard_error
    shifted = torch.tensor([mmd2(torch.randn(20, 4), torch.randn(20, 4) + 1) for _ in range(400)])
    assert shifted.mean().item() > 40 * standard_error


def test_it_is_seeded_and_keeps_off_the_global_random_numbers() -> None:
    x, y = torch.randn(300, 4), torch.randn(300, 4)
    before = torch.get_rng_state()
    assert kid(x, y, 5, 100, seed=1) == kid(x, y, 5, 100, seed=1)
    assert kid(x, y, 5, 100, seed=1) != kid(x, y, 5, 100, seed=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_sets_smaller_than_a_subset_are_used_whole_in_any_order() -> None:
    x, y = torch.randn(50, 4), torch.randn(50, 4)
    found = kid(x, y, subsets=3)
    assert found.kid == pytest.approx(mmd2(x.double(), y.double()), rel=1e-9)
    assert found.kid_std == pytest.approx(0, abs=1e-12)


def test_it_agrees_with_torch_fidelity() -> None:
    theirs = pytest.importorskip(
        "torch_fidelity.metric_kid", reason="torch-fidelity cannot be imported", exc_type=ImportError
    )
    x, y = torch.randn(200, 16, dtype=torch.float64), torch.randn(200, 16, dtype=torch.float64) + 0.2
    found = theirs.kid_features_to_metric(x, y, kid_subsets=2, kid_subset_size=200, rng_seed=0, verbose=False)
    assert kid(x, y, 2, 200).kid == pytest.approx(found["kernel_inception_distance_mean"], rel=1e-6)


def test_it_agrees_with_torchmetrics() -> None:
    image = pytest.importorskip("torchmetrics.image.kid", reason="torchmetrics is not installed")
    x, y = torch.randn(100, 16, dtype=torch.float64), torch.randn(100, 16, dtype=torch.float64) + 0.2
    assert mmd2(x, y) == pytest.approx(image.poly_mmd(x, y).item(), rel=1e-6)


def test_features_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \[5, 3\] and \[5, 4\]"):
        kid(torch.zeros(5, 3), torch.zeros(5, 4))
    with pytest.raises(ValueError, match="at least 2, got 100 of 1"):
        kid(torch.zeros(1, 3), torch.zeros(5, 3))
