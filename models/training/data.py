"""Opens a data set by name or path, and deals out its images in an order that is a pure function of their number.

Image number i of a run (counted from 0 over all epochs) is `epoch_order(n, seed, i // n)[i % n]`. So the position in
the data is one integer, a resumed run sees what an uninterrupted one sees, and workers cannot change the order.
"""

import atexit
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..ranks import rank, world_size
from .embedded import digits, photos
from .image_files import ImageFiles
from .images import ImageArray, ImageData, to_float, to_uint8
from .packed import SUFFIX, PackedImages

__all__ = ["ImageArray", "ImageData", "batches", "epoch_order", "open_data", "to_float", "to_uint8"]

EMBEDDED: dict[str, Callable[..., ImageData]] = {"digits": digits, "photos": photos}
BatchSize = int | Callable[[int], int]
LOADERS_ERRORS = ("DataLoader worker", "Pin memory thread")
DEAD = "killed, perhaps for want of memory; fewer --workers need less, 0 none"


def open_data(source: str, cond: bool = False) -> ImageData:
    """Opens `digits`, `photos`, or images in files.

    Args:
        source: `digits[:8|16|32]`, `photos[:16|...|256]`, or a path: a packed file, a folder or .zip file of images, or
            tar shards such as `shards-{000..099}.tar` (see `find_shards`).
        cond: Keep the labels, for a class-conditional model.

    Raises:
        ValueError: `cond` is set and the data has no labels, or the data cannot be used.
    """
    data = open_with_labels(source)
    if cond and data.labels is None:
        raise ValueError(
            f'data: {source} has no labels, expected for --cond a dataset.json with "labels", or one folder per class'
        )
    return data if cond else data.without_labels()


def open_with_labels(source: str) -> ImageData:
    """Likewise, with labels where there are any."""
    name, _, size = source.partition(":")
    if name in EMBEDDED:
        if size and not size.isdigit():
            raise ValueError(f"data: expected {name}:<resolution>, got {source}")
        return EMBEDDED[name](int(size)) if size else EMBEDDED[name]()
    return PackedImages(source) if source.endswith(SUFFIX) else ImageFiles(source)


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `n` items in one epoch: int64 [n]. RandomState's stream is frozen by NumPy's policy (NEP 19)."""
    return np.random.RandomState([seed, epoch]).permutation(n)


def batch_indices(n: int, batch: BatchSize, seed: int, start: int) -> Iterator[np.ndarray]:
    """Endless batches of item numbers from the run's image number `start` on: this rank's, int64 [batch / ranks]."""
    position, epoch, order = start, -1, np.empty(0, np.int64)
    while True:
        indices = np.empty(batch if isinstance(batch, int) else batch(position), np.int64)
        for k in range(len(indices)):
            if position // n != epoch:
                epoch = position // n
                order = epoch_order(n, seed, epoch)
            indices[k] = order[position % n]
            position += 1
        yield indices[rank() :: world_size()]


def batches(
    data: ImageData,
    batch: BatchSize,
    seed: int = 0,
    start: int = 0,
    mirror: bool = False,
    workers: int = 0,
    prefetch: int = 2,
    pin_memory: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of images and labels.

    Args:
        data: The data set.
        batch: Images per batch, or a function that gives them from the number of images that the run has seen.
        seed: Chooses the order.
        start: Number of images that the run has seen before.
        mirror: Doubles the data set with its horizontal mirror images.
        workers: Processes that read images; 0 reads in this one. The order is the same for any number.
        prefetch: Batches that each worker reads ahead.
        pin_memory: Have the workers' images in memory from which a GPU copies while it computes.

    Yields:
        This rank's images uint8 [batch / ranks, C, H, W] and labels float32 [batch / ranks, c_dim].

    Raises:
        ValueError: An image cannot be read, in the place of the batch that it belongs to.
        OSError: The data or a worker is gone.
    """
    n = len(data)
    order = batch_indices(n * 2 if mirror else n, batch, seed, start)
    if not workers:
        for indices in order:
            yield _read(data, indices), data.encode_labels(indices % n)
    loader = DataLoader(
        _Batches(data),
        batch_sampler=batch_indices(n * 2 if mirror else n, batch, seed, start),  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=_unchanged,
        prefetch_factor=prefetch,
        pin_memory=pin_memory,
        worker_init_fn=_ignore_signals,
        generator=torch.Generator(),  # it draws a seed for its workers: not from the run's random numbers
    )
    for indices, images in zip(order, _watched(loader)):
        yield images, data.encode_labels(indices % n)


def _read(data: ImageData, indices: np.ndarray) -> Tensor:
    """Images [N], those from len(data) on mirrored: uint8 [N, C, H, W]."""
    images = data.read(indices % len(data))
    mirrored = indices >= len(data)
    if mirrored.any():
        images[mirrored] = images[mirrored].flip(3)
    return images


class _Batches(Dataset[Tensor | Exception]):
    """What a worker reads: a batch, or why there is none, for an exception from a worker arrives as pages of text."""

    def __init__(self, data: ImageData):
        self.data = data

    def __getitems__(self, indices: np.ndarray) -> Tensor | Exception:
        try:
            return _read(self.data, indices)
        except (ValueError, OSError) as error:
            return error


def _unchanged(batch: Any) -> Any:
    return batch


def _watched(loader: DataLoader[Tensor | Exception]) -> Iterator[Tensor]:
    """The batches of a loader. A worker that has ended is noticed when its batch is due, within seconds.

    PyTorch's handler of SIGCHLD would raise at any instruction, in the middle of a step; the loader looks itself, too.
    Workers that nobody tells to end, for the program fails elsewhere, are killed: Python would wait for them for ever.
    """
    main = threading.current_thread() is threading.main_thread()
    handler, others = signal.getsignal(signal.SIGCHLD), set(multiprocessing.active_children())
    images = iter(loader)
    workers = [process for process in multiprocessing.active_children() if process not in others]
    kill = partial(_kill, workers)
    atexit.register(kill)
    if main and handler is not None:
        signal.signal(signal.SIGCHLD, handler)
    try:
        while isinstance(batch := _next(images), Tensor):
            yield batch
        raise batch
    finally:
        del images  # the workers are asked to end, and waited for
        kill()
        atexit.unregister(kill)


def _next(images: Iterator[Tensor | Exception]) -> Tensor | Exception:
    """The next batch, or what prevents it, which does not keep the workers alive as an exception's frames do."""
    try:
        return next(images)
    except (RuntimeError, OSError, EOFError) as error:  # the last two: it ended while it handed a batch over
        if isinstance(error, RuntimeError) and not any(text in str(error) for text in LOADERS_ERRORS):
            raise
        return ChildProcessError(f"data: a process that reads images has ended: {DEAD}")


def _kill(workers: list[BaseProcess]) -> None:
    for worker in workers:
        if worker.is_alive():
            worker.kill()


def _ignore_signals(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the main process decides when the workers stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
