"""FID and its moments."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gankern.models.metrics.fid import Moments, feature_distance, fid, frechet_distance


def moments(*parts: torch.Tensor) -> Moments:
    found = Moments()
    for part in parts:
        found.add(part)
    return found


def correlated(n: int, width: int) -> torch.Tensor:
    return torch.randn(n, width) @ torch.randn(width, width) + torch.randn(width)


def test_two_known_gaussians_are_at_the_closed_form() -> None:
    mean_a, mean_b = torch.tensor([1.0, 0.0, -2.0]), torch.tensor([1.0, 3.0, -1.0])
    std_a, std_b = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([2.0, 0.1, 0.5])
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]  # of both: the covariances commute
    a, b = (turn * std.double().square() @ turn.T for std in (std_a, std_b))
    expected = (mean_a - mean_b).square().sum() + (std_a - std_b).square().sum()
    assert frechet_distance(mean_a, a, mean_b, b) == pytest.approx(expected.item(), rel=1e-7)


def test_covariances_that_do_not_commute_are_at_the_closed_form_for_two_dimensions() -> None:
    a = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, -0.7], [-0.7, 3.0]], dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    # the eigenvalues l of a 2x2 matrix have sum(sqrt l)^2 = trace + 2 sqrt(det)
    cross = ((a @ b).trace() + 2 * (a.det() * b.det()).sqrt()).sqrt()
    assert frechet_distance(zero, a, zero, b) == pytest.approx((a.trace() + b.trace() - 2 * cross).item(), rel=1e-12)


def test_a_set_is_at_distance_zero_from_itself_and_from_its_permutation() -> None:
    x = correlated(500, 20)
    assert feature_distance(x, x) == pytest.approx(0, abs=1e-8)
    assert feature_distance(x, x[torch.randperm(500)]) == pytest.approx(0, abs=1e-8)


def test_fewer_features_than_dimensions_are_at_distance_zero_too() -> None:
    x = correlated(20, 50)
    assert feature_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_it_is_symmetric() -> None:
    a, b = correlated(500, 6), correlated(300, 6)
    assert feature_distance(a, b) == pytest.approx(feature_distance(b, a), rel=1e-9)


def test_moments_are_mean_and_unbiased_covariance_however_the_features_come() -> None:
    x = correlated(1000, 8) + 1e4  # far from zero, where sums of squares would lose digits
    whole, parts, merged = moments(x), moments(*x.split(7)), moments(x[:300])
    merged.merge(moments(x[300:301]))
    merged.merge(moments(x[301:]))
    merged.merge(Moments())
    expected = torch.cov(x.double().T)
    for found in (whole, parts, merged):
        assert found.count == 1000
        torch.testing.assert_close(found.mean, x.double().mean(0), rtol=1e-12, atol=0)
        torch.testing.assert_close(found.cov(), expected, rtol=1e-9, atol=1e-9)


def test_moments_come_back_from_their_state() -> None:
    a, b = moments(correlated(50, 4)), moments(correlated(60, 4))
    assert fid(Moments.from_state_dict(a.state_dict()), b) == fid(a, b)


def test_it_agrees_with_torch_fidelity() -> None:
    theirs = pytest.importorskip(
        "torch_fidelity.metric_fid", reason="torch-fidelity cannot be imported", exc_type=ImportError
    )
    a, b = correlated(400, 32), correlated(300, 32)
    statistics = [theirs.fid_features_to_statistics(x.double()) for x in (a, b)]
    expected = theirs.fid_statistics_to_metric(*statistics, verbose=False)
    assert feature_distance(a, b) == pytest.approx(expected["frechet_inception_distance"], rel=1e-6)


def test_it_agrees_with_torchmetrics_and_scipy() -> None:
    linalg = pytest.importorskip("scipy.linalg", reason="scipy is not installed")
    a, b = correlated(400, 16).double(), correlated(300, 16).double()
    cov_a, cov_b = np.cov(a.numpy(), rowvar=False), np.cov(b.numpy(), rowvar=False)
    cross = np.trace(linalg.sqrtm(cov_a @ cov_b).real)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum().item() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross
    assert feature_distance(a, b) == pytest.approx(expected, rel=1e-6)
    image = pytest.importorskip("torchmetrics.image.fid", reason="torchmetrics is not installed")
    found = image._compute_fid(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T)).item()
    assert feature_distance(a, b) == pytest.approx(found, rel=1e-6)


def test_features_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"features must be \[n, 4\], got \[3, 5\]"):
        moments(torch.zeros(3, 4), torch.zeros(3, 5))
    with pytest.raises(ValueError, match="at least 2 features, got 1"):
        moments(torch.zeros(1, 4)).cov()
    with pytest.raises(ValueError, match="means and covariances"):
        frechet_distance(torch.zeros(2), torch.eye(2), torch.zeros(3), torch.eye(3))
