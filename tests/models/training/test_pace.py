"""How fast a run goes, and how long it will take."""

from dataclasses import replace

import pytest
from tiny import OPTIONS
from tiny_growing import GROWTH, PROGAN

from gankern.models.training.pace import UNKNOWN_GROWTH, Pace, remaining
from gankern.models.training.stats import Summary, summarise


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock: its only element."""
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    return now


def tick(kimg: float, resolution: int, sec_per_kimg: float, maintenance: float = 0.0) -> Summary:
    values = {
        "Progress/kimg": kimg,
        "Progress/resolution": resolution,
        "Timing/sec_per_kimg": sec_per_kimg,
        "Timing/maintenance_sec": maintenance,
    }
    return {name: summarise([value]) for name, value in values.items()}


def test_what_is_left_takes_as_long_as_what_was_done(seconds: list[float]) -> None:
    pace = Pace(replace(OPTIONS, kimg=10), 1000)
    assert pace.seconds_left() is None
    seconds[0] += 30
    pace.step(4000, None)
    assert pace.images_per_second() == pace.current() == 100
    assert pace.seconds_left() == pytest.approx(60)


def test_what_is_left_of_a_growing_run_are_the_parts_of_its_schedule() -> None:
    left = list(remaining(PROGAN, 80))  # in the middle of the fade to 8
    assert left[0] == (8, round((GROWTH.train_kimg + GROWTH.fade_kimg) * 1000) - 80)
    assert {resolution for resolution, _ in left} == {8, 16}
    assert sum(images for _, images in left) == round(PROGAN.kimg * 1000) - 80
    assert list(remaining(PROGAN, 10**9)) == []


def test_a_resolution_that_was_not_reached_is_extrapolated(seconds: list[float]) -> None:
    images = {size: sum(n for r, n in remaining(PROGAN, 96) if r == size) for size in (8, 16)}
    pace = Pace(PROGAN, 0)
    seconds[0] += 6.4
    pace.step(64, 4)  # 0.1 s an image
    assert pace._cost(8) == pytest.approx(0.1 * UNKNOWN_GROWTH)
    seconds[0] += 9.6
    pace.step(96, 8)  # 0.3 s an image: thrice as long
    assert pace.current() == pytest.approx(1 / 0.3)
    assert pace.seconds_left() == pytest.approx(0.3 * images[8] + 0.9 * images[16])


@pytest.mark.parametrize(("second", "factor"), [(0.05, 1.0), (8.0, 4.0)])
def test_more_pixels_cost_no_less_and_no_more_than_their_number(
    seconds: list[float], second: float, factor: float
) -> None:
    pace = Pace(PROGAN, 0)
    seconds[0] += 6.4
    pace.step(64, 4)
    seconds[0] += 32 * second
    pace.step(96, 8)
    assert pace._cost(16) == pytest.approx(second * factor)


def test_a_resumed_run_knows_lower_resolutions_and_measures_its_own_anew(seconds: list[float]) -> None:
    history = [tick(0.032, 4, 50), tick(0.064, 4, 50, maintenance=3.2), tick(0.08, 8, 1e6)]
    pace = Pace(PROGAN, 80, history)
    assert pace.spent == {4: (pytest.approx(6.4), 64)}
    seconds[0] += 16 * 0.2
    pace.step(96, 8)
    assert pace._cost(8) == pytest.approx(0.2)
    assert pace._cost(16) == pytest.approx(0.4)


def test_statistics_from_before_there_were_times_are_no_obstacle() -> None:
    old = {"Progress/kimg": summarise([0.04]), "Progress/resolution": summarise([4])}
    assert Pace(PROGAN, 40, [old]).seconds_left() is None
