"""The sample grids of a report."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest

from gankern.models.training import moments as module
from gankern.models.training.moments import encode, label, moments, picture_uri, shrunk
from gankern.models.training.png import read_png, write_png


def grid(run_dir: Path, kimg: int, size: int = 24) -> None:
    noise = np.random.RandomState(kimg).randint(0, 256, [size, size, 3])
    write_png(run_dir / f"fakes{kimg:06d}.png", noise.astype(np.uint8))


def test_every_moment_is_there_while_they_are_few(tmp_path: Path) -> None:
    assert moments(tmp_path) == ([], 0)
    for kimg in (0, 4, 8, 12):
        grid(tmp_path, kimg)
    found, left_out = moments(tmp_path)
    assert [moment.label for moment in found] == ["0 kimg", "4 kimg", "8 kimg", "12 kimg"]
    assert left_out == 0


def test_of_many_moments_the_first_the_last_and_some_between_stay(tmp_path: Path) -> None:
    for kimg in range(100):
        grid(tmp_path, kimg)
    found, left_out = moments(tmp_path)
    assert [int(moment.label.split()[0]) for moment in found] == [*range(0, 99, 4), 99]
    assert left_out == 100 - len(found)


def test_large_moments_are_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kimg in range(16):
        grid(tmp_path, kimg)
    size = len(picture_uri(tmp_path / "fakes000000.png"))
    monkeypatch.setattr(module, "MOST_BYTES", 10 * size)
    found, left_out = moments(tmp_path)
    assert len(found) == 9
    assert left_out == 7
    assert sum(len(moment.uri) for moment in found) <= 10 * size


def test_a_picture_is_encoded_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []
    monkeypatch.setattr(module, "encode", lambda pixels: encoded.append(pixels) or encode(pixels))
    grid(tmp_path, 0)
    first = picture_uri(tmp_path / "fakes000000.png")
    assert picture_uri(tmp_path / "fakes000000.png") == first
    assert len(encoded) == 1
    write_png(tmp_path / "fakes000000.png", np.zeros([8, 8, 1], np.uint8))
    assert picture_uri(tmp_path / "fakes000000.png") != first


@pytest.mark.parametrize("channels", [1, 3])
def test_small_pictures_are_kept_exactly(channels: int) -> None:
    image = pytest.importorskip("PIL.Image", reason="WebP needs Pillow")
    pixels = np.random.RandomState(0).randint(0, 256, [20, 30, channels]).astype(np.uint8)
    kind, data = encode(pixels)
    assert kind == "webp"
    decoded = np.asarray(image.open(io.BytesIO(data)).convert("L" if channels == 1 else "RGB"))
    assert np.array_equal(decoded.reshape(pixels.shape), pixels)


def test_without_pillow_pictures_are_png(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Image", None)
    grid(tmp_path, 7)
    uri = picture_uri(tmp_path / "fakes000007.png")
    assert uri.startswith("data:image/png;base64,")
    (tmp_path / "again.png").write_bytes(base64.b64decode(uri.partition(",")[2]))
    assert np.array_equal(read_png(tmp_path / "again.png"), read_png(tmp_path / "fakes000007.png"))


def test_wide_pictures_shrink_by_the_mean_of_squares() -> None:
    pixels = np.arange(4 * 7, dtype=np.uint8).reshape(4, 7, 1)
    small = shrunk(pixels, 3)  # thrice smaller: one row of two squares
    assert small.shape == (1, 2, 1)
    assert small[0, 0, 0] == round(pixels[:3, :3].mean())
    assert shrunk(pixels, 7) is pixels


def test_a_label_says_when_and_at_which_resolution() -> None:
    assert label(Path("fakes000012.png")) == "12 kimg"
    assert label(Path("fakes000012-8x8.png")) == "12 kimg, 8x8"
