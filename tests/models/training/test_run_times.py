"""Where the time of a run went."""

import pytest

from gankern.models.training.run_times import MOST_BINS, by_phase, by_stage
from gankern.models.training.stats import Summary, summarise


def tick(kimg: float, seconds: float, maintenance: float = 0.0, images: int = 1000, **others: float) -> Summary:
    """A tick of 1000 images with 10 steps of G and of D, and 2 pictures after the tick before."""
    values = {
        "Progress/kimg": kimg,
        "Timing/sec_per_tick": seconds,
        "Timing/sec_per_kimg": 1000 * seconds / images,
        "Timing/maintenance_sec": maintenance,
    }
    found = {name: summarise([value]) for name, value in {**values, **others}.items()}
    found |= {f"Timing/{name}": summarise([ms] * 10) for name, ms in (("Gmain", 40.0), ("Dmain", 50.0))}
    return found | {"Timing/pictures": summarise([100.0] * 2)}


def test_the_parts_of_a_tick_add_up_to_its_time() -> None:
    series = {s.name: list(s.y) for s in by_phase([tick(1, 1.0, 0.5)])}
    assert series == {
        "Gmain": [pytest.approx(0.4)],  # 10 * 40 ms for 1000 images
        "Dmain": [pytest.approx(0.5)],
        "other": [pytest.approx(0.1)],
        "pictures": [pytest.approx(0.2)],
        "metrics ...": [pytest.approx(0.3)],
    }
    assert sum(y for (y,) in series.values()) == pytest.approx(1.5)


def test_a_long_run_is_averaged_over_stretches_by_images() -> None:
    ticks = [tick(k + 1, 1.0 + k % 2, images=1000 * (1 + k % 2)) for k in range(2 * MOST_BINS)]
    series = {s.name: s for s in by_phase(ticks)}
    assert len(series["Gmain"].x) == MOST_BINS
    assert series["Gmain"].y == pytest.approx([0.8 / 3] * MOST_BINS)
    assert by_phase([]) == []


def grown(kimg: float, resolution: int, alpha: float, seconds: float, memory: float) -> Summary:
    growth = {"Progress/resolution": resolution, "Progress/alpha": alpha, "Resources/cpu_mem_gb": memory}
    return tick(kimg, seconds, maintenance=0.5, **growth)


def test_stages_hold_their_ticks_and_the_most_memory() -> None:
    ticks = [grown(1, 4, 1, 1, 0.5), grown(2, 8, 0.3, 2, 0.6), grown(4, 8, 0.9, 3, 0.8), grown(5, 8, 1, 2.5, 0.7)]
    first, fade, last = by_stage(ticks)
    assert (first.name, first.first_kimg, first.last_kimg, first.seconds) == ("4x4", 0, 1, 1.5)
    assert (fade.name, fade.first_kimg, fade.last_kimg, fade.seconds) == ("8x8 fades in", 1, 4, 6)
    assert fade.ms_image == pytest.approx((2 * 1 + 3 * 2) / 3)  # the second tick has twice the images
    assert fade.memory_gb == 0.8
    assert last.name == "8x8"
    assert by_stage([tick(1, 1.0)]) == []
