"""Sample grids and the timeline."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_state

from gankern.models.training import pictures
from gankern.models.training.data import ImageArray, ImageData
from gankern.models.training.png import read_png, write_png


def test_images_are_tiled_row_by_row() -> None:
    images = torch.tensor([-1.0, -0.5, 0.0, 0.5])[:, None, None, None].expand(4, 1, 2, 3)
    grid = pictures.tile(images, columns=2)
    assert grid.shape == (4, 6, 1)
    assert grid[::2, ::3, 0].tolist() == [[0, 64], [128, 191]]


def test_small_images_are_enlarged_by_repetition_with_a_gap_between() -> None:
    images = torch.rand(2, 1, 8, 8) * 2 - 1
    shown = pictures.present(images)
    assert shown.shape == (2, 1, 68, 68)
    assert torch.equal(shown[:, :, 7:64:8, 3:64:8], images)
    assert (shown[:, :, 64:] == shown[0, 0, -1, -1]).all()
    assert pictures.present(torch.zeros(1, 3, 128, 128)).shape == (1, 3, 132, 132)


def test_a_grid_has_one_column_per_class(digits8: ImageData) -> None:
    z, c = pictures.grid_inputs(digits8, 4, seed=0)
    assert z.shape == (80, 4)
    assert torch.equal(c.argmax(1).reshape(8, 10), torch.arange(10).expand(8, 10))
    assert torch.equal(z, pictures.grid_inputs(digits8, 4, seed=0)[0])


def test_an_unconditional_grid_has_labels_of_width_zero() -> None:
    data = ImageArray("plain", torch.zeros(3, 1, 4, 4, dtype=torch.uint8))
    z, c = pictures.grid_inputs(data, 4, seed=0)
    assert len(z) == len(c) == 80
    assert c.shape[1] == 0


def test_real_images_stand_in_their_classes_column(tmp_path: Path) -> None:
    values = torch.arange(0, 250, 10, dtype=torch.uint8)
    data = ImageArray("numbered", values[:, None, None, None].repeat(1, 1, 64, 64), np.arange(25) % 5)
    pictures.write_reals(tmp_path / "reals.png", data)
    grid = read_png(tmp_path / "reals.png")[::68, ::68, 0] // 10
    assert grid.shape == (8, 5)
    assert (grid % 5 == np.arange(5)).all()


def test_writing_samples_leaves_the_random_numbers_alone(tmp_path: Path, digits8: ImageData) -> None:
    before = torch.get_rng_state()
    z, c = pictures.grid_inputs(digits8, 4, seed=0)
    state = tiny_state()
    torch.set_rng_state(before)
    pictures.write_samples(tmp_path / "fakes000000.png", state.G_ema, z, c, 10)
    assert torch.equal(torch.get_rng_state(), before)
    assert read_png(tmp_path / "fakes000000.png").shape == (8 * 68, 10 * 68, 1)


def test_the_timeline_stacks_first_rows_from_first_to_last(tmp_path: Path) -> None:
    for kimg in range(40):
        grid = np.full((8 * 64, 3 * 64, 1), 200, np.uint8)
        grid[:64] = kimg
        write_png(tmp_path / f"fakes{kimg:06d}.png", grid)
    pictures.write_timeline(tmp_path)
    rows = read_png(tmp_path / "timeline.png")[::64, 0, 0].tolist()
    assert len(rows) == pictures.TIMELINE_ROWS
    assert rows == sorted(rows)
    assert rows[0] == 0
    assert rows[-1] == 39


def test_the_timeline_of_a_growing_run_is_as_wide_as_its_largest_images(tmp_path: Path) -> None:
    for size, value in ((64, 10), (128, 20), (256, 30)):
        write_png(tmp_path / f"fakes000000-{size}x{size}.png", np.full((8 * size, 3 * size, 1), value, np.uint8))
    pictures.write_timeline(tmp_path)
    timeline = read_png(tmp_path / "timeline.png")
    assert timeline.shape == (3 * 128, 3 * 128, 1)
    assert timeline[::128, 0, 0].tolist() == [10, 20, 30]


def test_grids_of_one_moment_are_in_the_order_of_their_resolutions(tmp_path: Path) -> None:
    names = ["fakes000000-8x8.png", "fakes000000-16x16.png", "fakes000004-16x16.png", "fakes000010-128x128.png"]
    for name in reversed(names):
        (tmp_path / name).touch()
    assert [path.name for path in pictures.sample_grids(tmp_path)] == names


@pytest.mark.parametrize("size", [4, 8, 32])
def test_the_grid_of_a_small_resolution_can_be_seen(size: int) -> None:
    assert pictures.present(torch.zeros(1, 1, size, size)).shape == (1, 1, 68, 68)
