"""What the rows of the families that grow have in common."""

from __future__ import annotations

from collections.abc import Sequence

from ..training.options import Growth
from ..training.schedule import fade_start


def by_resolution(values: Sequence[int], first_resolution: int, last_resolution: int) -> dict[int, int]:
    """Values at 4, 8, 16, ... as a table of a run's resolutions; the last of them holds for those above, too."""
    resolutions = [2**k for k in range(2, last_resolution.bit_length())]
    table = {resolution: values[min(k, len(values) - 1)] for k, resolution in enumerate(resolutions)}
    return {resolution: value for resolution, value in table.items() if resolution >= first_resolution}


def up_to(table: dict[int, float], last_resolution: int) -> dict[int, float]:
    """The entries of a table by resolution that a run meets."""
    return {resolution: value for resolution, value in table.items() if resolution <= last_resolution}


def whole_kimg(growth: Growth, published_kimg: float, published_resolution: int = 1024) -> float:
    """Length of a run that trains fully grown networks for as long as the published one trained its."""
    published = Growth(growth.first_resolution, published_resolution, growth.train_kimg, growth.fade_kimg)
    return published_kimg - (grown_kimg(published) - grown_kimg(growth))


def grown_kimg(growth: Growth) -> float:
    """When the last resolution has faded in, in thousands of images."""
    if growth.first_resolution == growth.last_resolution:
        return 0.0
    return fade_start(growth, growth.last_resolution) / 1000 + growth.fade_kimg
