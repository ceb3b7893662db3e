"""CIFAR-10 in its python version, read without executing its pickles."""

from __future__ import annotations

import io
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..convert.numpy_pickle import NUMPY, Array
from ..convert.restricted_pickle import CONTAINERS, unpickle
from ..training.tar import members
from .sources import Source, inflate

BATCHES = [f"data_batch_{k}" for k in range(1, 6)]  # the training images


def open_cifar(path: Path) -> Source:
    """The 50,000 training images of cifar-10-python.tar.gz, 32x32 RGB, with their classes.

    Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    file = io.BytesIO(inflate(path))
    found = {PurePosixPath(entry.name).name: entry for entry in members(file, path)}
    names, images, labels = [], [], []
    for batch in BATCHES:
        if batch not in found:
            raise ValueError(f"data: {path} has no file {batch}, expected cifar-10-python.tar.gz")
        file.seek(found[batch].offset)
        try:
            part = unpickle(io.BytesIO(file.read(found[batch].size)), CONTAINERS | NUMPY)
            pixels, classes = _parts(part)
        except ValueError as error:
            raise ValueError(f"data: {path}/{batch}: {error}") from error
        names += [f"{batch}/{k}" for k in range(len(pixels))]
        images.append(pixels)
        labels.append(classes)
    every = np.concatenate(images)  # [N, H, W, C]
    return Source(names, lambda index: every[index], np.concatenate(labels))


def _parts(part: Any) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 32, 32, 3] and class numbers int64 [N] of a batch."""
    if not isinstance(part, dict):
        raise ValueError("expected a dictionary")
    entries = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in part.items()}
    data, labels = entries.get("data"), entries.get("labels")
    pixels = data.tensor().numpy() if isinstance(data, Array) else np.empty(0)
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3072:
        raise ValueError(f"expected data uint8 [N, 3072], got {pixels.dtype} {list(pixels.shape)}")
    if not isinstance(labels, list) or not all(type(k) is int and 0 <= k < 10 for k in labels):
        raise ValueError("expected a list of labels from 0 to 9")
    if len(labels) != len(pixels):
        raise ValueError(f"expected {len(pixels)} labels, got {len(labels)}")
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), np.array(labels, np.int64)
