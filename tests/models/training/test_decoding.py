"""Whatever the bytes of an image file are, there come pixels or a ValueError."""

import io
import os
from typing import Any

import numpy as np
import pytest

from gankern.models.training import decoding
from gankern.models.training.decoding import decode, with_channels

Image = pytest.importorskip("PIL.Image", reason="image files need Pillow")

MUTATIONS = int(os.environ.get("GANKERN_MUTATIONS", "3000"))  # of each kind of file; more for a long run
FORMATS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 90},
    "WEBP": {"quality": 90},
    "GIF": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "PPM": {},
}


def file_of(kind: str, mode: str = "RGB", size: tuple[int, int] = (24, 16)) -> bytes:
    rng = np.random.RandomState(0)
    pixels = rng.randint(0, 256, (size[1], size[0], len(mode)), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if mode == "L" else pixels).save(file, kind, **FORMATS[kind])
    return file.getvalue()


def mutated(content: bytes, rng: np.random.RandomState) -> bytes:
    """A file with a few bytes changed, cut out, doubled or cut off."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 5)):
        at, length = rng.randint(len(data)), rng.randint(1, 40)
        match rng.randint(5):
            case 0:
                data[at] ^= 1 << rng.randint(8)
            case 1:
                data[at : at + 4] = rng.bytes(4)
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = data[at : at + length]
            case _:
                data = data[: max(at, 1)]
        if not data:
            break
    return bytes(data)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged metadata
@pytest.mark.parametrize("kind", FORMATS)
def test_mutated_files_are_decoded_or_refused_with_one_line(kind: str) -> None:
    content, rng, refusals = file_of(kind), np.random.RandomState(1), []
    for _ in range(MUTATIONS):
        try:
            pixels = decode(mutated(content, rng))
        except ValueError as error:
            refusals.append(str(error))
            continue
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] in (1, 3, 4)
    assert refusals
    assert [text for text in refusals if "\n" in text or len(text) > 300] == []


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
def test_pixels_come_back(mode: str, channels: int) -> None:
    pixels = decode(file_of("PNG", mode))
    assert pixels.shape == (16, 24, channels)
    expected = np.random.RandomState(0).randint(0, 256, (16, 24, channels), np.uint8)
    np.testing.assert_array_equal(pixels, expected)


def test_formats_whose_decoders_start_programs_are_refused() -> None:
    with pytest.raises(ValueError, match="no image in a known format"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")


def test_more_pixels_than_the_limit_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 24 * 16 - 1)
    with pytest.raises(ValueError, match="at most 383 pixels, got 24x16"):
        decode(file_of("PNG")[:60])


def test_grey_is_repeated_and_alpha_added_or_dropped() -> None:
    grey, colour = np.full((2, 2, 1), 7, np.uint8), np.arange(16, dtype=np.uint8).reshape(2, 2, 4)
    assert (with_channels(grey, 3) == 7).all()
    assert with_channels(grey, 4)[0, 0].tolist() == [7, 7, 7, 255]
    assert with_channels(colour, 3)[1, 1].tolist() == [12, 13, 14]
    assert with_channels(colour[..., :3], 4)[1, 1].tolist() == [12, 13, 14, 255]
    with pytest.raises(ValueError, match="expected a grey image, got RGBA"):
        with_channels(colour, 1)
