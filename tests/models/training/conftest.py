"""Small data for the tests of training."""

from pathlib import Path

import pytest

from gankern.models.training.data import ImageData, open_data


@pytest.fixture
def digits8() -> ImageData:
    return open_data("digits:8", cond=True)


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Ten 8x8 RGB images, image k of the one colour (k, 2 k, 3 k)."""
    image = pytest.importorskip("PIL.Image", reason="image files need Pillow")
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for k in range(10):
        image.new("RGB", (8, 8), (k, 2 * k, 3 * k)).save(folder / ("sub" if k > 6 else ".") / f"img{k}.png")
    return folder
