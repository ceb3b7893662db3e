"""Opens a data set by name or path, and deals out its images in an order that is a pure function of their number.

Image number i of a run (counted from 0 over all epochs) is `epoch_order(n, seed, i // n)[i % n]`. So the position in
the data is one integer, a resumed run sees what an uninterrupted one sees, and workers cannot change the order.
"""

import signal
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from .embedded import digits, photos
from .image_files import ImageFiles
from .images import ImageArray, ImageData, to_float, to_uint8

__all__ = ["ImageArray", "ImageData", "batches", "epoch_order", "open_data", "to_float", "to_uint8"]

BatchSize = int | Callable[[int], int]


def open_data(source: str, cond: bool = False) -> ImageData:
    """Opens `digits`, `photos`, a folder or a zip file.

    Args:
        source: `digits[:8|16|32]`, `photos[:16|...|256]`, or the path of a folder or .zip file of images.
        cond: Keep the labels, for a class-conditional model.

    Raises:
        ValueError: `cond` is set and the data has no labels, or the data cannot be used.
    """
    name, _, size = source.partition(":")
    embedded = {"digits": digits, "photos": photos}.get(name)
    if embedded and size and not size.isdigit():
        raise ValueError(f"data: expected {name}:<resolution>, got {source}")
    if embedded:
        data: ImageData = embedded(int(size)) if size else embedded()
    else:
        data = ImageFiles(source)
    if cond and data.labels is None:
        raise ValueError(f'data: {source} has no labels, expected a dataset.json with "labels" for --cond')
    return data if cond else data.without_labels()


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `n` items in one epoch: int64 [n]. RandomState's stream is frozen by NumPy's policy (NEP 19)."""
    return np.random.RandomState([seed, epoch]).permutation(n)


def batch_indices(n: int, batch: BatchSize, seed: int, start: int) -> Iterator[np.ndarray]:
    """Endless batches of item numbers, int64 [batch], from the run's image number `start` on."""
    position, epoch, order = start, -1, np.empty(0, np.int64)
    while True:
        indices = np.empty(batch if isinstance(batch, int) else batch(position), np.int64)
        for k in range(len(indices)):
            if position // n != epoch:
                epoch = position // n
                order = epoch_order(n, seed, epoch)
            indices[k] = order[position % n]
            position += 1
        yield indices


def batches(
    data: ImageData, batch: BatchSize, seed: int = 0, start: int = 0, mirror: bool = False, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of images and labels.

    Args:
        data: The data set.
        batch: Images per batch, or a function that gives them from the number of images that the run has seen.
        seed: Chooses the order.
        start: Number of images that the run has seen before.
        mirror: Doubles the data set with its horizontal mirror images.
        workers: Processes that read images; 0 reads in this one. The order is the same for any number.

    Yields:
        Images uint8 [batch, C, H, W] and labels float32 [batch, c_dim].
    """
    n = len(data)
    items = n * 2 if mirror else n
    for indices, images in zip(
        batch_indices(items, batch, seed, start), _read(data, items, batch, seed, start, workers), strict=True
    ):
        if mirror:
            images = torch.where(torch.from_numpy(indices >= n)[:, None, None, None], images.flip(3), images)
        yield images, data.encode_labels(indices % n)


def _read(data: ImageData, items: int, batch: BatchSize, seed: int, start: int, workers: int) -> Iterator[Tensor]:
    order = (indices % len(data) for indices in batch_indices(items, batch, seed, start))
    if not workers:
        return (data.read(indices) for indices in order)
    own = torch.Generator()  # a loader draws a seed for its workers: not from the run's random numbers
    loader = DataLoader(
        data,
        batch_sampler=order,  # type: ignore[arg-type]
        num_workers=workers,
        worker_init_fn=_ignore_signals,
        generator=own,
    )
    before = signal.getsignal(signal.SIGCHLD)
    images = iter(loader)
    signal.signal(signal.SIGCHLD, before)  # torch's would raise in the middle of a step; the loader looks itself, too
    return images


def _ignore_signals(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the main process decides when the workers stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
