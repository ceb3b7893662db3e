"""Statistics of a tick."""

import pytest
import torch

from gankern.models.training.stats import Stats


def test_a_summary_holds_count_mean_and_deviation_and_starts_afresh() -> None:
    stats = Stats()
    for value in (1.0, 2.0, 6.0):
        stats.add("Gmain", "Loss/G/loss", torch.full([4, 1], value))
    assert stats.summary() == {"Loss/G/loss": {"num": 3, "mean": 3.0, "std": pytest.approx((14 / 3) ** 0.5)}}
    assert stats.summary() == {}


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_value_that_is_not_finite_names_the_phase_it_came_from_first(bad: float) -> None:
    stats = Stats()
    for k in range(4):
        stats.add("Gmain", "Loss/G/loss", torch.tensor(bad if k > 2 else 1.0))
        stats.add("Dmain", "Loss/D/loss", torch.tensor(bad if k > 1 else 1.0))
    with pytest.raises(FloatingPointError, match="Loss/D/loss of phase Dmain"):
        stats.summary()


def test_a_saved_half_tick_goes_on_where_it_was() -> None:
    stats, restored = Stats(), Stats()
    stats.add("Dreg", "Loss/r1_penalty", torch.tensor(0.1))
    restored.load_state_dict(stats.state_dict(), torch.device("cpu"))
    for s in (stats, restored):
        s.add("Dreg", "Loss/r1_penalty", torch.tensor(0.7))
    assert restored.summary() == stats.summary()
