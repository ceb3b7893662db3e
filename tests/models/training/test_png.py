"""The PNG writer, against Pillow and its own reader."""

import io
from pathlib import Path

import numpy as np
import pytest

from gankern.models.training.png import encode_png, read_png, write_png


def picture(*shape: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pillow_reads_what_is_written(channels: int) -> None:
    image = pytest.importorskip("PIL.Image", reason="the reference reader is Pillow")
    pixels = picture(7, 13, channels)
    read = np.array(image.open(io.BytesIO(encode_png(pixels))))
    assert np.array_equal(read, pixels.squeeze())


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_own_reader_reads_what_is_written(tmp_path: Path, channels: int) -> None:
    pixels = picture(5, 4, channels)
    write_png(tmp_path / "a.png", pixels)
    assert np.array_equal(read_png(tmp_path / "a.png"), pixels)


def test_the_own_reader_refuses_other_files(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="makes a file of another kind")
    image.new("LA", (4, 4)).save(tmp_path / "other.png")
    with pytest.raises(ValueError, match=r"other\.png was not written by write_png"):
        read_png(tmp_path / "other.png")


@pytest.mark.parametrize("pixels", [picture(4, 4), picture(4, 4, 2), np.zeros((4, 4, 3))])
def test_other_pixels_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="pixels must be uint8"):
        encode_png(pixels)
