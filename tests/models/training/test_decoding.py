"""Whatever the bytes of an image file are, there come pixels or a ValueError."""

import numpy as np
import pytest
from mutation import FORMATS, MUTATIONS, file_of, mutated

from gankern.models.training import decoding
from gankern.models.training.decoding import decode, with_channels

pytest.importorskip("PIL.Image", reason="image files need Pillow")


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
