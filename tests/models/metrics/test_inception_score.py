"""Inception Score."""

from __future__ import annotations

import pytest
import torch

from gankern.models.metrics.inception_score import inception_score


def test_a_classifier_that_never_knows_scores_one() -> None:
    assert inception_score(torch.full([1000, 10], 0.1)) == pytest.approx((1.0, 0.0), abs=1e-6)


def test_a_classifier_that_is_sure_and_sees_every_class_as_often_scores_the_number_of_classes() -> None:
    assert inception_score(torch.eye(10).repeat(100, 1)) == pytest.approx((10.0, 0.0), abs=1e-9)


def test_a_classifier_that_is_sure_of_one_class_scores_one() -> None:
    assert inception_score(torch.eye(10)[:1].repeat(100, 1)).inception_score == pytest.approx(1.0)


def test_splits_are_parts_in_order_of_the_images() -> None:
    p = torch.rand(103, 7, dtype=torch.float64).log().softmax(1)
    parts = [inception_score(p[k * 103 // 4 : (k + 1) * 103 // 4], 1).inception_score for k in range(4)]
    found = inception_score(p, 4)
    assert found == pytest.approx((torch.tensor(parts).mean().item(), torch.tensor(parts).std(correction=0).item()))
    assert inception_score(p, 1).inception_score == pytest.approx(inception_score(p.flip(0), 1).inception_score)


def test_it_agrees_with_torch_fidelity() -> None:
    theirs = pytest.importorskip(
        "torch_fidelity.metric_isc", reason="torch-fidelity cannot be imported", exc_type=ImportError
    )
    logits = torch.randn(500, 20, dtype=torch.float64) * 3
    found = theirs.isc_features_to_metric(logits, splits=10, shuffle=False)
    expected = (found["inception_score_mean"], found["inception_score_std"])
    assert inception_score(logits.softmax(1)) == pytest.approx(expected, rel=1e-6)


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(ValueError, match="take the softmax"):
        inception_score(torch.randn(100, 10))
    with pytest.raises(ValueError, match="N >= 10 splits"):
        inception_score(torch.full([5, 10], 0.1))
