"""Where a run stands: a pure function of the number of real images that it has seen."""

from collections.abc import Iterator
from typing import NamedTuple

from .options import Growth, TrainingOptions


class Stage(NamedTuple):
    """What one iteration uses."""

    iteration: int  # iterations before this one
    batch: int  # images per step
    batch_gpu: int  # images that go through the networks at once
    lr: float  # learning rate of G
    resolution: int | None = None  # None where the networks do not grow
    alpha: float = 1.0  # weight of the newest resolution, in (0, 1]

    @property
    def fading(self) -> bool:
        """Whether the newest resolution fades in."""
        return self.alpha < 1


class Period(NamedTuple):
    """A line of the published schedule: a resolution fades in, or trains on its own."""

    start: int  # in images
    end: int | None  # in images; None for the last one
    resolution: int
    fading: bool


def stage(options: TrainingOptions, cur_nimg: int) -> Stage:
    """The stage of the iteration that begins after `cur_nimg` images.

    A growing run looks at the schedule every `growth.repeats` iterations and goes by its last look. Where that was
    follows from where each resolution's first batch began, which follows from the schedule alone.

    Args:
        options: The run's options.
        cur_nimg: Real images seen, at the boundary of two iterations.
    """
    growth = options.growth
    if growth is None:
        batch_gpu = options.batch_gpu or options.batch
        return Stage(cur_nimg // (options.batch * options.d_steps), options.batch, batch_gpu, options.lr)
    resolution, first, iteration = growth.first_resolution, 0, 0  # first: images before the resolution's first batch
    while True:
        batch = growth.batch.get(resolution, options.batch)
        images = batch * options.d_steps * growth.repeats  # between two looks
        looks = (cur_nimg - first) // images
        looks_until_next = (fade_start(growth, resolution * 2) - first) // images + 1
        if resolution == growth.last_resolution or looks < looks_until_next:
            break
        first += looks_until_next * images
        iteration += looks_until_next * growth.repeats
        resolution *= 2
    faded = (first + looks * images - fade_start(growth, resolution)) / (growth.fade_kimg * 1000)
    return Stage(
        iteration=iteration + (cur_nimg - first) // (batch * options.d_steps),
        batch=batch,
        batch_gpu=growth.batch_gpu.get(resolution, options.batch_gpu or batch),
        lr=growth.lr.get(resolution, options.lr),
        resolution=resolution,
        alpha=min(faded, 1.0) if resolution > growth.first_resolution else 1.0,
    )


def lod(options: TrainingOptions, now: Stage) -> float:
    """The published level of detail: log2(last resolution / resolution) + 1 - alpha; 0 when all is grown."""
    if options.growth is None or now.resolution is None:
        return 0.0
    return doublings(now.resolution, options.growth.last_resolution) + 1 - now.alpha


def fade_start(growth: Growth, resolution: int) -> int:
    """After how many images a resolution begins to fade in: k (train + fade) - fade for the k-th after the first."""
    kimg = doublings(growth.first_resolution, resolution) * (growth.train_kimg + growth.fade_kimg) - growth.fade_kimg
    return round(kimg * 1000)


def periods(growth: Growth) -> Iterator[Period]:
    """The whole schedule, earliest first."""
    resolution, start = growth.first_resolution, 0
    while resolution < growth.last_resolution:
        fade = fade_start(growth, resolution * 2)
        yield Period(start, fade, resolution, fading=False)
        start = fade + round(growth.fade_kimg * 1000)
        resolution *= 2
        yield Period(fade, start, resolution, fading=True)
    yield Period(start, None, resolution, fading=False)


def doublings(resolution: int, larger: int) -> int:
    """How often a power of two doubles to become a larger one."""
    return larger.bit_length() - resolution.bit_length()
