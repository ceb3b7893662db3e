"""Packed images come back as they were, or not at all."""

import json
import math
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from gankern.models.training.data import open_data
from gankern.models.training.packed import PREFIX, PackedImages, PackedWriter


def images(count: int, channels: int = 3, height: int = 4, width: int = 8) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (count, channels, height, width), np.uint8)


def write(path: Path, pixels: np.ndarray, labels: np.ndarray | None = None) -> Path:
    with PackedWriter(path) as writer:
        for k, image in enumerate(pixels):
            writer.add(image, f"photos/{k}.jpg")
        writer.finish(labels)
    return path


def forged(path: Path, **entries: object) -> Path:
    """The file with other entries in its header, and with checksums that are right."""
    content = path.read_bytes()
    magic, start, length, _, _ = PREFIX.unpack_from(content)
    header = json.loads(content[start : start + length]) | entries
    text = json.dumps(header).encode()
    prefix = PREFIX.pack(magic, start, len(text), zlib.crc32(text), 0)[:-4]
    path.write_bytes(prefix + struct.pack("<I", zlib.crc32(prefix)) + content[PREFIX.size : start] + text)
    return path


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_and_names_come_back(tmp_path: Path, channels: int) -> None:
    pixels = images(5, channels)
    data = PackedImages(write(tmp_path / "some.gankern", pixels))
    assert torch.equal(data.read(np.array([4, 0, 0, 2])), torch.from_numpy(pixels[[4, 0, 0, 2]]))
    assert torch.equal(data[3], torch.from_numpy(pixels[3]))
    assert (data.name, len(data), data.height, data.width, data.channels) == ("some", 5, 4, 8, channels)
    assert data.file_names() == [f"photos/{k}.jpg" for k in range(5)]


@pytest.mark.parametrize("labels", [np.array([2, 0, 1]), np.array([[0.5, 1.0], [0.0, 2.0], [3.0, -1.0]])])
def test_labels_come_back(tmp_path: Path, labels: np.ndarray) -> None:
    data = open_data(str(write(tmp_path / "some.gankern", images(3), labels)), cond=True)
    assert data.labels is not None
    np.testing.assert_array_equal(data.labels, labels)
    assert data.num_classes == (3 if labels.ndim == 1 else None)


def test_every_single_bit_that_flips_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "some.gankern", images(2, 1, 4, 4), np.array([0, 1]))
    content, unnoticed = path.read_bytes(), []
    with open(path, "r+b", buffering=0) as file:
        for bit in range(8 * len(content)):
            file.seek(bit // 8)
            file.write(bytes([content[bit // 8] ^ 1 << bit % 8]))
            try:
                PackedImages(path).read(np.arange(2))
                unnoticed.append(bit)
            except ValueError:
                pass
            file.seek(bit // 8)
            file.write(content[bit // 8 : bit // 8 + 1])
    PackedImages(path).read(np.arange(2))
    assert len(content) > 200
    assert unnoticed == []


def test_a_damaged_image_is_named_by_its_number_and_file_and_the_others_are_read(tmp_path: Path) -> None:
    pixels = images(4)
    path = write(tmp_path / "some.gankern", pixels)
    content = bytearray(path.read_bytes())
    content[PREFIX.size + 2 * pixels[0].size + 7] ^= 1
    path.write_bytes(content)
    data = PackedImages(path)
    assert torch.equal(data.read(np.array([0, 1, 3])), torch.from_numpy(pixels[[0, 1, 3]]))
    with pytest.raises(ValueError, match=r"image 2 of .*some\.gankern \(from photos/2\.jpg\) is damaged"):
        data.read(np.array([0, 2]))


@pytest.mark.parametrize("length", [0, 7, 31, 32, 200, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "some.gankern", images(4))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"some\.gankern"):
        PackedImages(path)


def test_a_file_that_was_not_written_to_its_end_is_refused(tmp_path: Path) -> None:
    with PackedWriter(tmp_path / "some.gankern") as writer:
        writer.add(images(1)[0], "a.png")
    with pytest.raises(ValueError, match="not written to its end"):
        PackedImages(tmp_path / "some.gankern")


@pytest.mark.parametrize(
    "entries",
    [
        {"shape": [2**40, 3, 4, 8]},
        {"shape": [2**60, 3, 4, 8]},
        {"shape": [-3, 3, 4, -8]},
        {"shape": [3, 3, 8, 8]},
        {"shape": [3, 96]},
        {"shape": "all"},
        {"shape": [3.0, 3, 4, 8]},
        {"shape": [0, 3, 4, 8]},
        {"labels": [2**50]},
        {"labels": [3, 3, 3]},
        {"labels": [3, 2**40]},
        {"labels": "none"},
        {"name_bytes": -1},
        {"name_bytes": 2**40},
        {"version": 2},
        {"tables_crc32": 0},
        {"shape": [3, 3, 4, 8], "labels": [3]},
    ],
)
def test_a_header_that_does_not_fit_its_file_is_refused(tmp_path: Path, entries: dict[str, object]) -> None:
    path = forged(write(tmp_path / "some.gankern", images(3)), **entries)
    with pytest.raises(ValueError, match=r"data: .*some\.gankern"):
        PackedImages(path)


def test_a_file_that_shrinks_while_it_is_open_is_an_error_and_no_crash(tmp_path: Path) -> None:
    path = write(tmp_path / "some.gankern", images(3))
    data = PackedImages(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"some\.gankern ends at byte"):
        data[2]


def test_an_open_file_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    pixels = images(3)
    data = PackedImages(write(tmp_path / "some.gankern", pixels))
    data[0]
    assert torch.equal(pickle.loads(pickle.dumps(data))[2], torch.from_numpy(pixels[2]))


def test_an_open_file_outlives_its_name(tmp_path: Path) -> None:
    pixels = images(3)
    data = PackedImages(write(tmp_path / "some.gankern", pixels))
    data[0]
    (tmp_path / "some.gankern").unlink()
    assert torch.equal(data[2], torch.from_numpy(pixels[2]))


def test_images_of_another_shape_are_not_written(tmp_path: Path) -> None:
    with PackedWriter(tmp_path / "some.gankern") as writer:
        writer.add(images(1)[0], "a.png")
        with pytest.raises(ValueError, match=r"expected uint8 \[3, 4, 8\], got uint8 \[1, 4, 8\]"):
            writer.add(images(1, 1)[0], "b.png")


def test_the_fingerprint_changes_with_a_pixel(tmp_path: Path) -> None:
    pixels = images(3)
    before = PackedImages(write(tmp_path / "some.gankern", pixels)).fingerprint()
    assert PackedImages(write(tmp_path / "some.gankern", pixels)).fingerprint() == before
    pixels[1, 0, 0, 0] ^= 1
    assert PackedImages(write(tmp_path / "some.gankern", pixels)).fingerprint() != before


def test_the_file_is_as_long_as_its_parts(tmp_path: Path) -> None:
    pixels = images(3)
    path = write(tmp_path / "some.gankern", pixels, np.array([0, 1, 2]))
    _, start, length, _, _ = PREFIX.unpack_from(path.read_bytes())
    names = len("photos/0.jpg\nphotos/1.jpg\nphotos/2.jpg")
    assert start == PREFIX.size + math.prod(pixels.shape) + 4 * 3 + names + 4 * 3
    assert start + length == path.stat().st_size
