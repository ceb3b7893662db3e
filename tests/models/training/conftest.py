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


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run, with a snapshot at the end of each tick, to which nothing happens."""
    from test_loop import run
    from tiny import OFTEN

    run_dir = tmp_path_factory.mktemp("whole") / "run"
    run(run_dir, open_data("digits:8", cond=True), OFTEN)
    return run_dir
