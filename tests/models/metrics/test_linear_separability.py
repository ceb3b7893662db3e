"""Linear separability."""

from __future__ import annotations

import math
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from gankern.models.metrics.linear_separability import conditional_entropy, linear_separability

needs_sklearn = pytest.mark.skipif(find_spec("sklearn") is None, reason="scikit-learn is not installed")


def test_conditional_entropy_is_zero_where_one_tells_the_other_and_log_two_where_it_tells_nothing() -> None:
    y = np.array([True, False] * 50)
    assert conditional_entropy(y, ~y) == pytest.approx(0, abs=1e-12)
    assert conditional_entropy(y, np.array([True] * 50 + [False] * 50)) == pytest.approx(math.log(2))
    assert conditional_entropy(np.ones(10, bool), y[:10]) == 0


@needs_sklearn
def test_attributes_split_by_planes_score_one() -> None:
    z = torch.randn(2000, 4)
    scores = torch.stack([z[:, 0] + 0.5, z[:, 1] - z[:, 2]], 1)
    assert linear_separability(z, scores).linear_separability == pytest.approx(1, abs=0.02)


@needs_sklearn
def test_an_attribute_that_no_plane_tells_scores_two() -> None:
    z = torch.randn(4000, 2)
    found = linear_separability(z, (z[:, :1] * z[:, 1:]))  # the four quadrants
    assert found.linear_separability == pytest.approx(2, abs=0.1)
    both = linear_separability(z, torch.cat([z[:, :1] * z[:, 1:], z[:, 1:]], 1))
    assert both.linear_separability == pytest.approx(found.linear_separability, rel=0.05)
    assert both.entropies[1] == pytest.approx(0, abs=0.02)


@needs_sklearn
def test_it_is_the_svm_of_scikit_learn_on_the_surest_half() -> None:
    from sklearn.svm import LinearSVC

    z = torch.randn(600, 3)
    score = z[:, 0] + 0.8 * torch.randn(600)
    surest = score.abs().argsort(descending=True)[:300]
    x, y = z[surest].numpy(), (score[surest] > 0).numpy()
    expected = math.exp(conditional_entropy(y, LinearSVC(random_state=0).fit(x, y).predict(x)))
    assert linear_separability(z, score[:, None]).linear_separability == pytest.approx(expected, rel=1e-9)


def test_an_attribute_that_all_images_have_counts_nothing() -> None:
    assert linear_separability(torch.randn(20, 3), torch.ones(20, 1)).linear_separability == 1


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \[5, 2\] and \[4, 1\]"):
        linear_separability(torch.zeros(5, 2), torch.zeros(4, 1))
    with pytest.raises(ValueError, match=r"kept must be in \[1, 5\], got 6"):
        linear_separability(torch.zeros(5, 2), torch.zeros(5, 1), kept=6)
