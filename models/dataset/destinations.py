"""The files that `gankern dataset` writes: each is complete, or not there."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..training.archives import LABEL_FILE
from ..training.packed import SUFFIX, PackedWriter


class Destination(Protocol):
    """Takes images one after the other."""

    def add(self, pixels: np.ndarray, name: str) -> None:
        """Appends uint8 [H, W, C] that comes from a file `name`."""

    def finish(self, labels: np.ndarray | None) -> None:
        """Writes what belongs to all images."""


class Packed:
    """A packed file."""

    def __init__(self, writer: PackedWriter):
        self.writer = writer

    def add(self, pixels: np.ndarray, name: str) -> None:
        self.writer.add(pixels.transpose(2, 0, 1), name)

    def finish(self, labels: np.ndarray | None) -> None:
        self.writer.finish(labels)


class Numbered:
    """PNG files 00000/img00000000.png and so on, a thousand in a folder, and dataset.json: what StyleGAN2-ADA reads.

    Args:
        write: Writes the content of a file of a name.
    """

    def __init__(self, write: Callable[[str, bytes], Any]):
        self.write = write
        self.names: list[str] = []

    def add(self, pixels: np.ndarray, name: str) -> None:
        number = len(self.names)
        self.names.append(f"{number // 1000:05d}/img{number:08d}.png")
        self.write(self.names[-1], stored_png(pixels))

    def finish(self, labels: np.ndarray | None) -> None:
        pairs = None if labels is None else list(zip(self.names, labels.tolist(), strict=True))
        self.write(LABEL_FILE, json.dumps({"labels": pairs}).encode())


def stored_png(pixels: np.ndarray) -> bytes:
    """A PNG file that is not compressed, for speed: of uint8 [H, W, C]."""
    from PIL import Image

    file = io.BytesIO()
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.save(file, "PNG", compress_level=0, optimize=False)
    return file.getvalue()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Destination]:
    """Opens what `path` names, .gankern, .zip or a folder. It appears there when the context ends well.

    Raises:
        FileExistsError: There is something already.
    """
    if path.exists() and not (path.is_dir() and not path.suffix and not any(path.iterdir())):
        raise FileExistsError(f"{path} is there already; remove it, or choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with _opened(unfinished, path.suffix.lower()) as destination:
            yield destination
        unfinished.replace(path)
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished)
        else:
            unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(path: Path, suffix: str) -> Iterator[Destination]:
    if suffix == SUFFIX:
        with PackedWriter(path) as writer:
            yield Packed(writer)
    elif suffix == ".zip":
        with open(path, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                yield Numbered(lambda name, content: archive.writestr(zipfile.ZipInfo(name), content))
            file.flush()
            os.fsync(file.fileno())
    else:
        path.mkdir()

        def write(name: str, content: bytes) -> None:
            (path / name).parent.mkdir(exist_ok=True)
            (path / name).write_bytes(content)

        yield Numbered(write)
