"""`gankern style-mix`."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_checkpoints import written

from gankern.models import cli
from gankern.models.training.png import read_png


def style_mix(*args: object) -> int:
    return cli.main(["style-mix", *(str(arg) for arg in args), "--device", "cpu"])


@pytest.mark.parametrize(("family", "layers"), [("stylegan2", 8), ("stylegan", 8), ("biggan", 4)])
def test_an_image_has_some_layers_of_the_seed_above_and_the_others_of_that_at_the_left(
    family: str, layers: int, tmp_path: Path
) -> None:
    path = written(tmp_path, family)
    seeds = ["--rows", "1,2", "--cols", "3-5", "--class", "1", "--outdir"]
    assert style_mix(path, *seeds, tmp_path / "some", "--styles", "0-1") == 0
    assert style_mix(path, *seeds, tmp_path / "all", "--styles", f"0-{layers - 1}") == 0
    mixed = read_png(tmp_path / "some" / "1-4.png")
    assert (mixed != read_png(tmp_path / "some" / "1.png")).any()
    assert (mixed != read_png(tmp_path / "some" / "4.png")).any()
    assert (read_png(tmp_path / "all" / "2-5.png") == read_png(tmp_path / "all" / "5.png")).all()


def test_the_grid_has_the_seeds_at_its_edges(tmp_path: Path) -> None:
    path = written(tmp_path, "stylegan2", c_dim=0)
    assert style_mix(path, "--rows", "1,2", "--cols", "3-5", "--outdir", tmp_path / "out") == 0
    grid = read_png(tmp_path / "out" / "grid.png")
    assert grid.shape == (3 * 68, 4 * 68, 1)
    cell = lambda row, column: grid[row * 68 :, column * 68 :][:64:2, :64:2]  # noqa: E731
    for name, at in (("3", (0, 1)), ("5", (0, 3)), ("2", (2, 0)), ("1-3", (1, 1)), ("2-4", (2, 2))):
        assert (cell(*at) == read_png(tmp_path / "out" / f"{name}.png")).all(), name
    assert cell(0, 0).max() == cell(0, 0).min()


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("progan", [], "style mixing does not apply: this progan has one z for all layers"),
        ("sagan", [], "style mixing does not apply: this sagan has one z for all layers"),
        ("biggan", ["--styles", "2-4"], "--styles must be below the number of layers = 4, got 4"),
        ("stylegan", ["--class", "7"], "--class must be below the model's number of classes = 3, got 7"),
    ],
)
def test_what_does_not_apply_is_one_clear_line(
    family: str, options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert style_mix(written(tmp_path, family), *options, "--outdir", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
