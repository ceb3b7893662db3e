"""MNIST and what else comes in its files, such as Fashion-MNIST."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from .sources import Source, inflate

IMAGES, LABELS = "images-idx3", "labels-idx1"  # in the files' names
MAGIC = {3: 0x803, 1: 0x801}  # of bytes in so many dimensions
SIDE = 32  # pixels; the images have 28


def open_mnist(path: Path) -> Source:
    """The images of train-images-idx3-ubyte.gz with a black margin, 32x32 grey, and the labels of the file beside it.

    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", section "File formats".
    """
    if IMAGES not in path.name:
        raise ValueError(f"data: {path} is no known data set, expected MNIST's train-{IMAGES}-ubyte.gz or a .tar.gz")
    images = _array(path, 3)  # [N, H, W]
    height, width = images.shape[1:]
    if max(height, width) > SIDE:
        raise ValueError(f"data: {path} must have images of at most {SIDE}x{SIDE}, got {width}x{height}")
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    margins = [(0, 0), (top, SIDE - height - top), (left, SIDE - width - left)]
    images = np.pad(images, margins)[..., None]  # [N, SIDE, SIDE, 1]
    labels = _array(path.with_name(path.name.replace(IMAGES, LABELS)), 1)
    if len(labels) != len(images):
        raise ValueError(f"data: {path} has {len(images)} images, but {len(labels)} labels are beside it")
    return Source(
        [f"{path.name}/{k}" for k in range(len(images))], lambda index: images[index], labels.astype(np.int64)
    )


def _array(path: Path, dimensions: int) -> np.ndarray:
    content = inflate(path)
    start = 4 + 4 * dimensions
    magic, *shape = struct.unpack_from(f">{1 + dimensions}I", content.ljust(start, b"\0"))
    if magic != MAGIC[dimensions] or len(content) != start + int(np.prod(shape, dtype=float)):
        raise ValueError(
            f"data: {path} must be an idx file of bytes in {dimensions} dimensions, got {len(content)} bytes"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
