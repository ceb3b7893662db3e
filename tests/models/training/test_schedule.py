"""The schedule of progressive growing, against the published formula and loop."""

import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice

import pytest
from tiny import OPTIONS

from gankern.models.training.options import Growth, TrainingOptions
from gankern.models.training.schedule import Stage, lod, periods, stage

PUBLISHED = Growth(4, 1024, 600, 600, {4: 512, 8: 256, 16: 128, 32: 64, 64: 32}, {1024: 4}, {128: 0.0015, 256: 0.002})


def growing(growth: Growth = PUBLISHED, **change: int) -> TrainingOptions:
    return replace(OPTIONS, batch=32, lr=0.001, growth=growth, **change)


def published_lod(growth: Growth, nimg: int) -> float:
    """The published formula, with phases of train and fade kimg that begin with training, in whole images."""
    train, fade = round(growth.train_kimg * 1000), round(growth.fade_kimg * 1000)
    phase = nimg // (train + fade)
    level = Fraction(growth.last_resolution.bit_length() - growth.first_resolution.bit_length() - phase)
    level -= Fraction(max(nimg - phase * (train + fade) - train, 0), fade)
    return float(max(level, 0))


def published_loop(options: TrainingOptions) -> Iterator[tuple[int, Stage]]:
    """What the published loop does: it reads the formula, then takes `repeats` steps."""
    growth = options.growth
    assert growth
    nimg = iteration = 0
    while True:
        level = published_lod(growth, nimg)
        resolution = growth.last_resolution // 2 ** math.floor(level)
        batch = growth.batch.get(resolution, options.batch)
        for _ in range(growth.repeats):
            alpha = 1 - (level - math.floor(level))
            lr = growth.lr.get(resolution, options.lr)
            yield nimg, Stage(iteration, batch, growth.batch_gpu.get(resolution, batch), lr, resolution, alpha)
            nimg += batch * options.d_steps
            iteration += 1


@pytest.mark.parametrize(
    "options",
    [
        growing(),
        growing(replace(PUBLISHED, first_resolution=8)),
        growing(Growth(4, 32, 0.4, 0.3, {4: 24, 8: 16, 16: 10, 32: 6})),
        growing(Growth(4, 32, 0.4, 0.3, {4: 24, 8: 16, 16: 10, 32: 6}), d_steps=3),
        growing(Growth(4, 64, 0.05, 0.05, {4: 32, 8: 16}, repeats=5)),
        growing(Growth(4, 64, 0.0, 0.05, {4: 8, 8: 4})),
        growing(Growth(16, 16, 1.0, 1.0)),
    ],
    ids=["progan", "stylegan", "short", "short-3-d-steps", "shorter-than-a-look", "no-training-alone", "one-size"],
)
def test_the_stage_is_that_of_the_published_loop_at_every_iteration(options: TrainingOptions) -> None:
    assert options.growth
    short = options.growth.train_kimg < 100
    for nimg, expected in islice(published_loop(options), 0, 2000 if short else 150_000, 1 if short else 97):
        found = stage(options, nimg)
        assert found.alpha == pytest.approx(expected.alpha, abs=1e-9), nimg
        assert found._replace(alpha=expected.alpha) == expected, nimg


def test_progan_trains_1024_from_9600_kimg_on_and_stylegan_from_8400() -> None:
    assert [period.start for period in periods(PUBLISHED)][-1] == 9_600_000
    assert [period.start for period in periods(replace(PUBLISHED, first_resolution=8))][-1] == 8_400_000
    assert stage(growing(), 9_590_000).fading
    assert not stage(growing(), 9_610_000).fading


def test_periods_alternate_between_fading_in_and_training() -> None:
    found = [(p.start, p.end, p.resolution, p.fading) for p in periods(Growth(4, 8, 2, 1))]
    assert found == [(0, 2000, 4, False), (2000, 3000, 8, True), (3000, None, 8, False)]


def test_a_resolution_changes_the_moment_it_begins_to_fade_in() -> None:
    before, after = stage(growing(), 600_000 - 4 * 512), stage(growing(), 604_160)
    assert (before.resolution, before.alpha, before.batch) == (4, 1.0, 512)
    assert (after.resolution, after.batch) == (8, 256)
    assert 0 < after.alpha < 0.01


def test_the_level_of_detail_counts_down_to_zero() -> None:
    assert lod(growing(), stage(growing(), 0)) == 8
    assert lod(growing(), stage(growing(), 20_000_000)) == 0
    middle = stage(growing(), 1_504_000)
    assert lod(growing(), middle) == pytest.approx(7.0)


def test_without_growth_the_stage_never_changes_but_for_its_iteration() -> None:
    options = replace(OPTIONS, batch=8, batch_gpu=2, d_steps=3)
    assert stage(options, 0) == Stage(0, 8, 2, OPTIONS.lr)
    assert stage(options, 480) == Stage(20, 8, 2, OPTIONS.lr)
    assert lod(options, stage(options, 480)) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first_resolution": 6}, "first_resolution must be a power of two of at least 4, got 6"),
        ({"first_resolution": 2048}, "first_resolution must be at most last_resolution = 1024, got 2048"),
        ({"fade_kimg": 0}, "fade_kimg must be positive, got 0"),
        ({"train_kimg": -1}, "train_kimg must not be negative, got -1"),
        ({"repeats": 0}, "repeats must be positive, got 0"),
        ({"batch": {8: 0}}, "batch at 8 must be positive, got 0"),
        ({"lr": {8: float("nan")}}, "lr at 8 must be positive, got nan"),
    ],
)
def test_a_growth_that_makes_no_sense_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PUBLISHED, **change)
