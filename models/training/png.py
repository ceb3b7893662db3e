"""Writes images as PNG, and reads back what it wrote, with zlib alone."""

import struct
import zlib
from pathlib import Path

import numpy as np

from .atomic import write_atomically

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPE = {1: 0, 3: 2, 4: 6}  # channels: grey, RGB, RGBA


def encode_png(pixels: np.ndarray) -> bytes:
    """The PNG file of an image: uint8 [H, W, 1] (grey), [H, W, 3] (RGB) or [H, W, 4] (RGBA)."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in COLOUR_TYPE:
        raise ValueError(f"png: pixels must be uint8 [H, W, 1, 3 or 4], got {pixels.dtype} {list(pixels.shape)}")
    height, width, channels = pixels.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each row starts with its filter: 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, COLOUR_TYPE[channels], 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows.tobytes())) + _chunk(b"IEND", b"")


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Writes uint8 [H, W, 1], [H, W, 3] or [H, W, 4] to a file."""
    content = encode_png(pixels)
    write_atomically(path, lambda file: file.write(content))


def read_png(path: Path) -> np.ndarray:
    """Reads a file that `write_png` wrote: uint8 [H, W, 1, 3 or 4]."""
    data, chunks, at = path.read_bytes(), {}, len(SIGNATURE)
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks[data[at + 4 : at + 8]] = data[at + 8 : at + 8 + length]
        at += length + 12
    width, height, depth, colour = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    if depth != 8 or colour not in COLOUR_TYPE.values() or rows[:, 0].any():
        raise ValueError(f"png: {path} was not written by write_png")
    return rows[:, 1:].reshape(height, width, -1)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
