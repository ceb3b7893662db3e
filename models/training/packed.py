"""Packed images: one file of raw pixels with a checksum for each image, opened at once and read without decoding.

    0   GANKERN1, where the header begins and how long it is, its CRC-32, and the CRC-32 of these 28 bytes
    32  the images: uint8 [N, C, H, W]
        the labels: int32 [N] or float32 [N, c_dim], if there are any
        the names of the files that the images come from, UTF-8, a line each
        the images' CRC-32: uint32 [N]
        the header, JSON: version, shape, labels ([N], [N, c_dim] or null), name_bytes, tables_crc32 (of all tables)

Numbers are little endian. The tables follow the images, for how many images there are is known at the end. All places
follow from the header, and nothing is allocated before they add up to the file's size.
"""

import hashlib
import json
import math
import os
import struct
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .archives import OpenFile
from .images import ImageData
from .labels import label_array

SUFFIX = ".gankern"
MAGIC = b"GANKERN1"
PREFIX = struct.Struct("<8sQQII")
MAX_HEADER_BYTES = 2**16
LABEL_TYPES = {1: "<i4", 2: "<f4"}  # by their dimensions


class PackedImages(ImageData):
    """Images of a packed file, each compared with its checksum when it is read.

    They are read straight into the batch. The file is not mapped into memory: a file that shrinks or a disk that fails
    would end the process by a signal, while a read that fails can be reported.

    Args:
        path: The file.

    Raises:
        ValueError: It is damaged, truncated or of another kind. Also when an image is read that is damaged, by its
            number and the file that it comes from.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.file = OpenFile(self.path)
        header, start, self.digest = _read_header(self.file)
        self.shape, label_shape, name_bytes = _checked_sizes(header, start, self.path)
        images, n = math.prod(self.shape), self.shape[0]
        tables = self.file.read(PREFIX.size + images, start - PREFIX.size - images)
        if zlib.crc32(tables) != header.get("tables_crc32"):
            raise ValueError(f"data: {self.path} is damaged: the checksum of its tables is wrong")
        names_at, sums_at = len(tables) - 4 * n - name_bytes, len(tables) - 4 * n
        self.names = tables[names_at:sums_at]
        self.checksums = np.frombuffer(tables[sums_at:], "<u4")
        labels = None
        if label_shape:
            array = np.frombuffer(tables[:names_at], LABEL_TYPES[len(label_shape)]).reshape(label_shape)
            labels = label_array(array, str(self.path))
        super().__init__(self.path.stem, n, (self.shape[2], self.shape[3]), self.shape[1], labels)

    def __getitem__(self, index: int) -> Tensor:
        return self.read(np.array([index]))[0]

    def read(self, indices: np.ndarray) -> Tensor:
        images = np.empty((len(indices), *self.shape[1:]), np.uint8)  # [N, C, H, W]
        size = math.prod(self.shape[1:])
        for image, index in zip(images.reshape(len(indices), size), indices.tolist()):
            if not 0 <= index < self.length:
                raise IndexError(f"data: {self.path} has images 0 to {self.length - 1}, got {index}")
            self.file.read_into(PREFIX.size + index * size, image.data)
            if zlib.crc32(image.data) != self.checksums[index]:
                raise ValueError(f"data: {self.where(index)} is damaged: its checksum is wrong")
        return torch.from_numpy(images)

    def file_names(self) -> list[str]:
        """The names of the files that the images come from."""
        return self.names.decode("utf-8", "surrogateescape").split("\n")

    def where(self, index: int) -> str:
        """Names an image for people: its number, this file, and the one that it comes from."""
        names = self.file_names()
        return f"image {index} of {self.path} (from {names[index] if index < len(names) else 'nowhere'})"

    def fingerprint(self) -> str:
        """A hash of the header and with it of all checksums."""
        return hashlib.sha256(f"{self.name} {self.digest}".encode()).hexdigest()


class PackedWriter:
    """Writes a packed file image by image; a context, at whose end the file is complete.

    Args:
        path: The file to write; what it held is lost.
    """

    def __init__(self, path: Path):
        self.path = path
        self.shape: tuple[int, ...] = ()
        self.names: list[str] = []
        self.checksums: list[int] = []

    def __enter__(self) -> "PackedWriter":
        self.file = open(self.path, "wb")
        self.file.write(bytes(PREFIX.size))
        return self

    def add(self, image: np.ndarray, name: str) -> None:
        """Appends an image uint8 [C, H, W] that comes from a file `name`.

        Raises:
            ValueError: Its shape is not that of the first.
        """
        self.shape = self.shape or image.shape
        if image.shape != self.shape or image.dtype != np.uint8:
            raise ValueError(f"packed: expected uint8 {list(self.shape)}, got {image.dtype} {list(image.shape)}")
        image = np.ascontiguousarray(image)
        self.file.write(image.data)
        self.checksums.append(zlib.crc32(image.data))
        self.names.append(name.replace("\n", " "))

    def finish(self, labels: np.ndarray | None) -> None:
        """Writes all but the images: labels are class numbers [N] or vectors [N, c_dim]."""
        if labels is not None:
            labels = labels.astype(LABEL_TYPES[labels.ndim])
        names = "\n".join(self.names).encode("utf-8", "surrogateescape")
        checksums = np.array(self.checksums, "<u4")
        tables = (b"" if labels is None else labels.tobytes()) + names + checksums.tobytes()
        header = {
            "version": 1,
            "shape": [len(self.names), *self.shape],
            "labels": None if labels is None else list(labels.shape),
            "name_bytes": len(names),
            "tables_crc32": zlib.crc32(tables),
        }
        text = json.dumps(header).encode()
        self.file.write(tables)
        start = self.file.tell()
        self.file.write(text)
        self.file.seek(0)
        prefix = PREFIX.pack(MAGIC, start, len(text), zlib.crc32(text), 0)
        self.file.write(prefix[:-4] + struct.pack("<I", zlib.crc32(prefix[:-4])))
        self.file.flush()
        os.fsync(self.file.fileno())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()


def _read_header(file: OpenFile) -> tuple[dict[str, Any], int, int]:
    """The header, where it begins, and its checksum."""
    size = file.size()
    if size < PREFIX.size:
        raise ValueError(f"data: {file.path} is no packed file: it has {size} bytes")
    prefix = file.read(0, PREFIX.size)
    magic, start, length, crc, crc_of_prefix = PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise ValueError(f"data: {file.path} is no packed file, or was not written to its end")
    if zlib.crc32(prefix[:-4]) != crc_of_prefix:
        raise ValueError(f"data: {file.path} is damaged: the checksum of its first bytes is wrong")
    if start + length != size or length > MAX_HEADER_BYTES:
        raise ValueError(f"data: {file.path} is truncated or damaged: expected {start + length} bytes, got {size}")
    text = file.read(start, length)
    if zlib.crc32(text) != crc:
        raise ValueError(f"data: {file.path} is damaged: the checksum of its header is wrong")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"data: {file.path} has a damaged header ({error})") from error
    if not isinstance(header, dict) or header.get("version") != 1:
        raise ValueError(f"data: {file.path} is a packed file of another version, expected 1")
    return header, start, crc


def _checked_sizes(header: dict[str, Any], start: int, path: Path) -> tuple[tuple[int, ...], list[int] | None, int]:
    """The images' shape, that of the labels, and the size of the names: only if all add up to where the header is."""
    shape: Any = header.get("shape")
    labels: Any = header.get("labels")
    name_bytes: Any = header.get("name_bytes")
    if not _are_counts(shape, {4}) or 0 in shape:
        raise ValueError(f"data: {path} must have images of shape [N, C, H, W], got {str(shape)[:100]}")
    if labels is not None and (not _are_counts(labels, set(LABEL_TYPES)) or labels[0] != shape[0]):
        raise ValueError(f"data: {path} must have labels of shape [{shape[0]}, ...], got {str(labels)[:100]}")
    if not _are_counts([name_bytes], {1}):
        raise ValueError(f"data: {path} must have a number of name_bytes, got {str(name_bytes)[:100]}")
    label_bytes = 4 * math.prod(labels) if labels else 0
    end = PREFIX.size + math.prod(shape) + label_bytes + name_bytes + 4 * shape[0]
    if end != start:
        raise ValueError(f"data: {path} must have its header at byte {end}, where all else ends, got {start}")
    return tuple(shape), labels, name_bytes


def _are_counts(values: Any, lengths: set[int]) -> bool:
    if not isinstance(values, list) or len(values) not in lengths:
        return False
    return all(type(value) is int and 0 <= value < 2**48 for value in values)
