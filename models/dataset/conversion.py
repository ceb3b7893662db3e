"""From a source to a destination, image by image; what cannot be used is left out and named."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from ..training.decoding import with_channels
from ..training.images import nominal
from .destinations import Destination
from .preparation import Preparation
from .sources import Source

AHEAD = 4  # images that each thread has in hand or ready
Item = TypeVar("Item")


@dataclass
class Result:
    """What was written, and what was not."""

    shape: tuple[int, ...] = ()  # [H, W, C] of every image, empty before the first
    kept: list[int] = field(default_factory=list)  # their numbers in the source
    labels: np.ndarray | None = None
    skipped: list[tuple[str, str]] = field(default_factory=list)  # file and reason


def convert(
    source: Source,
    destination: Destination,
    prepare: Preparation,
    strict: bool = False,
    threads: int = 1,
    after_image: Callable[[], object] = lambda: None,
) -> Result:
    """Copies images, which get one size and number of channels: those of the first that can be read.

    Args:
        source: Where they come from.
        destination: Where they go to, in the source's order.
        prepare: What is done to each.
        strict: Stop at the first image that cannot be used.
        threads: That decode and prepare.
        after_image: Called after each.

    Raises:
        ValueError: No image can be used, or with `strict` one cannot, or networks cannot make images of their size.
    """
    result = Result()

    def prepared(index: int) -> np.ndarray | ValueError:
        try:
            return prepare(source.load(index))
        except ValueError as error:
            return error

    for index, pixels in enumerate(in_order(prepared, len(source.names), threads)):
        if not result.shape and not isinstance(pixels, ValueError):
            result.shape = _shape_of_all(pixels, source.names[index])
        try:
            pixels = _like_the_first(pixels, result.shape)
        except ValueError as error:
            if strict:
                raise ValueError(f"{source.names[index]}: {error}") from error
            result.skipped.append((source.names[index], str(error)))
        else:
            destination.add(pixels, source.names[index])
            result.kept.append(index)
        after_image()
    if not result.kept:
        name, reason = result.skipped[0]
        raise ValueError(f"none of {len(source.names)} images can be used; the first is {name}: {reason}")
    result.labels = None if source.labels is None else source.labels[result.kept]
    destination.finish(result.labels)
    return result


def in_order(function: Callable[[int], Item], count: int, threads: int) -> Iterator[Item]:
    """function(0), function(1), ..., computed by threads, a few ahead."""
    waiting: deque[Future[Item]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for index in range(count):
            waiting.append(pool.submit(function, index))
            if len(waiting) > AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _shape_of_all(first: np.ndarray, name: str) -> tuple[int, ...]:
    """The shape of the first image, if networks can make it."""
    try:
        nominal(first.shape[0], first.shape[1])
    except ValueError as error:
        raise ValueError(f"{name}: {error}; --resolution 256x256 --transform center-crop makes it so") from error
    return first.shape


def _like_the_first(pixels: np.ndarray | ValueError, shape: tuple[int, ...]) -> np.ndarray:
    """The image in the number of channels of all, if it has their size."""
    if isinstance(pixels, ValueError):
        raise pixels
    if pixels.shape[:2] != shape[:2]:
        expected, got = f"{shape[1]}x{shape[0]}", f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise ValueError(f"expected {expected} like the first image, got {got}; --resolution makes all of one size")
    return with_channels(pixels, shape[2])
