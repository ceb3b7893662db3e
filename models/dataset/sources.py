"""Whatever images can be read from, as one list of them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

MAX_INFLATED = 2**30  # bytes of a .gz file that is read at once


class Source(NamedTuple):
    """Images of any sizes, read one at a time and by any thread."""

    names: list[str]
    load: Callable[[int], np.ndarray]  # from its number to uint8 [H, W, C]; ValueError if that image is damaged
    labels: np.ndarray | None  # class numbers int64 [N], or vectors float32 [N, c_dim]
    folders: Sequence[str] = ()  # in the order of the classes, where these are the folders that the images lie in


def open_source(source: str, max_images: int | None = None) -> Source:
    """Opens a data set.

    Args:
        source: Anything that `open_data` takes; cifar-10-python.tar.gz; MNIST's train-images-idx3-ubyte.gz, with the
            labels' file beside it; or the folder of an LSUN lmdb.
        max_images: Take the first so many.

    Raises:
        ValueError: It is damaged or of no known kind.
        FileNotFoundError: It is not there.
    """
    from ..training.data import EMBEDDED
    from ..training.packed import SUFFIX
    from . import cifar, lsun, mnist

    path = Path(source)
    if source.partition(":")[0] in EMBEDDED or source.endswith(SUFFIX):
        opened = _of_data(source)
    elif lsun.recognises(path):
        opened = lsun.open_lmdb(path, max_images)
    elif source.endswith((".tar.gz", ".tgz")):
        opened = cifar.open_cifar(path)
    elif source.endswith(".gz"):
        opened = mnist.open_mnist(path)
    else:
        opened = _of_files(source)
    if not opened.names:
        raise ValueError(f"data: {source} has no images")
    labels = None if opened.labels is None else opened.labels[:max_images]
    return opened._replace(names=opened.names[:max_images], labels=labels)


def _of_data(source: str) -> Source:
    from ..training.data import open_with_labels
    from ..training.packed import PackedImages

    data = open_with_labels(source)
    names = data.file_names() if isinstance(data, PackedImages) else [f"{source}-{i}" for i in range(len(data))]
    return Source(names, lambda index: data[index].permute(1, 2, 0).numpy(), data.labels)


def _of_files(source: str) -> Source:
    from ..training.decoding import decode, pillow
    from ..training.image_files import open_archive

    pillow()
    archive, files, labels, folders = open_archive(source)
    return Source(files, lambda index: decode(archive.read(files[index])), labels, folders)


def inflate(path: Path) -> bytes:
    """The content of a .gz file.

    Raises:
        ValueError: It is damaged, or too large for what such files are.
    """
    machine = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        content = machine.decompress(path.read_bytes(), MAX_INFLATED)
    except zlib.error as error:
        raise ValueError(f"data: {path} is not a readable .gz file ({error})") from error
    if not machine.eof:
        raise ValueError(f"data: {path} is truncated, or larger than {MAX_INFLATED} bytes")
    return content
