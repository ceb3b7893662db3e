"""`gankern interpolate`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_checkpoints import OPTIONS, written

from gankern.models import cli
from gankern.models.training.png import read_png


def interpolate(*args: object) -> int:
    return cli.main(["interpolate", *(str(arg) for arg in args), "--device", "cpu"])


@pytest.mark.parametrize("family", OPTIONS)
def test_a_video_visits_the_seeds_evenly_and_comes_back(family: str, tmp_path: Path) -> None:
    path = written(tmp_path, family)
    options = ["--seeds", "3,5,8", "--class", "1", "--w-frames", "6"]
    assert interpolate(path, *options, "--out", tmp_path / "frames") == 0
    frames = np.stack([read_png(p) for p in sorted((tmp_path / "frames").iterdir())]).astype(int)
    assert frames.shape == (18, 128, 128, 1)
    assert cli.main(["sample", str(path), "--seeds", "3,5,8", "--class", "1", "--outdir", str(tmp_path / "s")]) == 0
    for at, seed in ((0, 3), (6, 5), (12, 8)):
        one = read_png(tmp_path / "s" / f"seed{seed:04d}-class1.png").astype(int)
        assert np.abs(frames[at, ::4, ::4] - one).max() <= 1
    steps = np.abs(np.roll(frames, -1, 0) - frames).mean((1, 2, 3))  # the last one is from the end to the start
    images = np.abs(np.roll(frames[::6], -1, 0) - frames[::6]).mean((1, 2, 3))
    assert steps.max() < images.max()
    assert steps.min() > 0


def test_a_grid_has_a_video_in_every_cell(tmp_path: Path) -> None:
    path = written(tmp_path, "stylegan2", c_dim=0, img_channels=3)
    assert interpolate(path, "--seeds", "0-11", "--grid", "3x2", "--w-frames", "2", "--out", tmp_path / "x.webp") == 0
    with Image.open(tmp_path / "x.webp") as image:
        assert image.n_frames == 4
        assert image.size == (3 * 128, 2 * 128)


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("biggan", ["--space", "w"], "--space w needs a mapping network, which a biggan has not: use --space z"),
        ("stylegan2", ["--seeds", "0-7", "--grid", "3x1"], "--seeds must be 2, 3, ... for each of the 3 videos"),
        ("stylegan2", ["--seeds", "4"], "--seeds must be at least 2, got 1 seeds"),
        ("stylegan2", ["--w-frames", "0"], "--w-frames must be at least 1, got 0"),
        ("stylegan2", ["--fps", "0"], "--fps must be positive, got 0"),
        ("stylegan2", ["--out", "loop.avi"], "must end in .webp, .gif, .mp4 or, for a folder of PNG, no ending"),
    ],
)
def test_what_does_not_apply_is_one_clear_line(
    family: str, options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert interpolate(written(tmp_path, family), "--out", tmp_path / "x.webp", *options) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_size_is_two_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        interpolate(tmp_path, "--grid", "2")
    assert "expected WxH such as 4x2, got 2" in capsys.readouterr().err
