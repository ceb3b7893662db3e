"""Improved precision and recall."""

from __future__ import annotations

import pytest
import torch

from gankern.models.metrics.precision_recall import precision_recall


def test_equal_sets_have_everything_and_disjoint_sets_nothing() -> None:
    x = torch.randn(200, 5)
    assert precision_recall(x, x.flip(0)) == (1.0, 1.0, 1.0)
    assert precision_recall(x, x + 1000) == (0.0, 0.0, 0.0)


def test_samples_of_half_of_the_data_are_precise_but_miss_the_other_half() -> None:
    left, right = torch.rand(300, 2), torch.rand(300, 2) + 100
    found = precision_recall(torch.cat([left, right]), torch.rand(300, 2))
    assert found.precision > 0.9
    assert found.recall == pytest.approx(0.5, abs=0.05)
    swapped = precision_recall(torch.rand(300, 2), torch.cat([left, right]))
    assert swapped.precision == pytest.approx(0.5, abs=0.05)
    assert swapped.f1 == pytest.approx(2 * swapped.precision * swapped.recall / (swapped.precision + swapped.recall))


def test_a_point_on_the_edge_is_inside_unless_strict() -> None:
    real = torch.tensor([[0.0], [1.0], [2.0], [3.0]])  # every ball of k = 1 has radius 1
    fake = torch.tensor([[4.0], [50.0], [90.0]])
    assert precision_recall(real, fake, k=1).precision == pytest.approx(1 / 3)
    assert precision_recall(real, fake, k=1, strict=True).precision == 0


def test_neither_order_nor_block_changes_it() -> None:
    real, fake = torch.randn(150, 6, dtype=torch.float64), torch.randn(130, 6, dtype=torch.float64) + 0.7
    expected = precision_recall(real, fake)
    assert 0.1 < expected.f1 < 0.95
    assert precision_recall(real[torch.randperm(150)], fake[torch.randperm(130)]) == expected
    assert precision_recall(real, fake, block=17) == expected


def test_it_agrees_with_torch_fidelity() -> None:
    theirs = pytest.importorskip(
        "torch_fidelity.metric_prc", reason="torch-fidelity cannot be imported", exc_type=ImportError
    )
    real, fake = torch.randn(300, 8, dtype=torch.float64), torch.randn(250, 8, dtype=torch.float64) + 0.5
    found = theirs.prc_features_to_metric(
        fake, real, prc_neighborhood=3, prc_batch_size=100, save_cpu_ram=False, verbose=False
    )
    expected = (found["precision"], found["recall"], found["f_score"])
    assert precision_recall(real, fake) == pytest.approx(expected, rel=1e-6)


def test_features_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \[5, 3\] and \[5, 4\]"):
        precision_recall(torch.zeros(5, 3), torch.zeros(5, 4))
    with pytest.raises(ValueError, match=r"k must be in .*, got 3 of 3"):
        precision_recall(torch.zeros(5, 3), torch.zeros(3, 3))
