"""How fast a run goes, and how long it will take."""

import time
from collections.abc import Iterator, Sequence

from .options import TrainingOptions
from .schedule import periods
from .stats import Summary

UNKNOWN_GROWTH = 2.0  # between two resolutions of which neither is measured; bench/results/growth-cpu.json: 1.7 to 2.6
LEAST_GROWTH, MOST_GROWTH = 1.0, 4.0  # as many pixels cost at least as much, and four times as many at most four times


class Pace:
    """Wall seconds per real image, pictures, snapshots and metrics included, at each resolution of a run.

    The time left is the sum over what the schedule has left: images at a resolution x seconds per image there. A
    resolution that has not been reached is taken to cost as many times the one below it as the two highest measured
    ones differ by, or `UNKNOWN_GROWTH` times where only one is measured. A resumed run knows the lower resolutions from
    its statistics, and measures the present one anew.

    Args:
        options: The run's options.
        cur_nimg: Images seen when it starts.
        ticks: The run's statistics so far, oldest first.
    """

    def __init__(self, options: TrainingOptions, cur_nimg: int, ticks: Sequence[Summary] = ()):
        self.options = options
        self.start_nimg = self.nimg = cur_nimg
        self.start = self.now = time.perf_counter()
        self.spent: dict[int | None, tuple[float, int]] = {}  # resolution -> seconds, images
        self.resolution: int | None = None  # the present one
        self._remember(ticks)

    def step(self, cur_nimg: int, resolution: int | None) -> None:
        """Called after each step with the images seen, and with the resolution that it trained if networks grow."""
        now = time.perf_counter()
        seconds, images = self.spent.get(resolution, (0.0, 0))
        self.spent[resolution] = seconds + now - self.now, images + cur_nimg - self.nimg
        self.now, self.nimg, self.resolution = now, cur_nimg, resolution

    def images_per_second(self) -> float:
        """Real images per second of wall time since it started."""
        return (self.nimg - self.start_nimg) / max(self.now - self.start, 1e-9)

    def current(self) -> float:
        """The same at the present resolution alone; 0 before the first step."""
        seconds, images = self.spent.get(self.resolution, (0.0, 0))
        return images / max(seconds, 1e-9)

    def seconds_left(self) -> float | None:
        """Until the end of the run; None before the first step."""
        if self.nimg == self.start_nimg:
            return None
        return sum(images * self._cost(resolution) for resolution, images in remaining(self.options, self.nimg))

    def _cost(self, resolution: int | None) -> float:
        """Seconds per image."""
        seconds, images = self.spent.get(resolution, (0.0, 0))
        if images:
            return seconds / images
        known = sorted((size for size, (_, n) in self.spent.items() if size is not None and n), reverse=True)
        if resolution is None or not known:
            return 0.0
        growth = UNKNOWN_GROWTH
        if len(known) > 1 and known[0] == 2 * known[1]:
            growth = min(max(self._cost(known[0]) / self._cost(known[1]), LEAST_GROWTH), MOST_GROWTH)
        if resolution < known[0]:  # the schedule looks every few iterations, and a step may come late
            return self._cost(known[0])
        return self._cost(resolution // 2) * growth

    def _remember(self, ticks: Sequence[Summary]) -> None:
        before, sizes = 0.0, []
        for tick in ticks:
            values = {name: statistic["mean"] for name, statistic in tick.items()}
            size, kimg = values.get("Progress/resolution"), values["Progress/kimg"]
            if size is not None and "Timing/sec_per_kimg" in values:
                seconds, images = self.spent.get(int(size), (0.0, 0))
                took = values["Timing/sec_per_kimg"] * (kimg - before) + values.get("Timing/maintenance_sec", 0.0)
                self.spent[int(size)] = seconds + took, images + round((kimg - before) * 1000)
                sizes.append(int(size))
            before = kimg
        if sizes:
            self.resolution = sizes[-1]
            del self.spent[sizes[-1]]


def remaining(options: TrainingOptions, cur_nimg: int) -> Iterator[tuple[int | None, int]]:
    """What a run has left after `cur_nimg` images: resolution (None where networks do not grow) and images."""
    total = round(options.kimg * 1000)
    if options.growth is None:
        yield None, max(total - cur_nimg, 0)
        return
    for period in periods(options.growth):
        start, end = max(period.start, cur_nimg), min(period.end or total, total)
        if start < end:
            yield period.resolution, end - start
