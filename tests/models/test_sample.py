"""`gankern sample`, from every family's generator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_checkpoints import OPTIONS, written

from gankern.models import cli
from gankern.models.training.png import read_png


def sample(*args: object) -> int:
    return cli.main(["sample", *(str(arg) for arg in args), "--device", "cpu"])


@pytest.mark.parametrize("family", OPTIONS)
def test_every_seed_and_class_gives_an_image_and_a_place_in_the_grid(family: str, tmp_path: Path) -> None:
    assert sample(written(tmp_path, family), "--seeds", "1,4-5", "--class", "2,0", "--outdir", tmp_path / "out") == 0
    names = [f"seed{seed:04d}-class{k}.png" for seed in (1, 4, 5) for k in (0, 2)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["grid.png", *names]
    assert read_png(tmp_path / "out" / names[0]).shape == (32, 32, 1)
    grid = read_png(tmp_path / "out" / "grid.png")
    assert grid.shape == (3 * 68, 2 * 68, 1)
    assert (grid[68:132:2, 68:132:2] == read_png(tmp_path / "out" / "seed0004-class0.png")).all()  # row 2, column 2


@pytest.mark.parametrize("option", [["--trunc", "0.4"], ["--noise-mode", "none"], ["--noise-mode", "random"]])
def test_an_option_changes_the_image_and_repeated_changes_nothing(option: list[str], tmp_path: Path) -> None:
    path = written(tmp_path, "stylegan", c_dim=0)
    images = []
    for i, given in enumerate(([], option, option)):
        assert sample(path, "--seeds", "0-2", *given, "--outdir", tmp_path / str(i)) == 0
        images.append(read_png(tmp_path / str(i) / "grid.png"))
    assert (images[0] != images[1]).any()
    assert (images[1] == images[2]).all()


def test_a_truncated_cutoff_leaves_the_fine_layers_alone(tmp_path: Path) -> None:
    path = written(tmp_path, "stylegan2", c_dim=0)
    for i, cutoff in enumerate((0, 3, 8)):
        options = ["--trunc", "0.3", "--trunc-cutoff", cutoff, "--seeds", "1", "--outdir", tmp_path / str(i)]
        assert sample(path, *options) == 0
    assert sample(path, "--seeds", "1", "--outdir", tmp_path / "plain") == 0
    none, some, all_, plain = (read_png(tmp_path / name / "seed0001.png") for name in ("0", "1", "2", "plain"))
    assert (none == plain).all()
    assert (some != plain).any()
    assert (some != all_).any()


def test_given_styles_are_drawn(tmp_path: Path) -> None:
    path = written(tmp_path, "stylegan2")
    w = np.random.RandomState(0).randn(2, 8, 16)  # as others write it, in double precision
    np.savez(tmp_path / "projected_w.npz", w=w)
    assert sample(path, "--projected-w", tmp_path / "projected_w.npz", "--outdir", tmp_path / "out") == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["grid.png", "proj00.png", "proj01.png"]
    assert (read_png(tmp_path / "out" / "proj00.png") != read_png(tmp_path / "out" / "proj01.png")).any()


def test_the_grid_of_a_long_list_shows_its_first_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("gankern.models.sample.GRID_IMAGES", 7)
    assert sample(written(tmp_path, "progan"), "--seeds", "0-3", "--outdir", tmp_path / "out") == 0
    assert "12 images in" in (said := capsys.readouterr().out)
    assert "the first 6 in" in said
    assert read_png(tmp_path / "out" / "grid.png").shape == (2 * 68, 3 * 68, 1)
    assert len(list((tmp_path / "out").glob("seed*.png"))) == 12


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("stylegan2", ["--class", "3"], "--class must be below the model's number of classes = 3, got 3"),
        ("progan", ["--trunc", "0.7"], "--trunc must be 1 for ProGAN"),
        ("biggan", ["--noise-mode", "const"], "--noise-mode does not apply: this biggan adds no noise"),
        ("stylegan2", ["--projected-w", "w.npz", "--trunc", "0.5"], "do not apply to --projected-w"),
        ("stylegan2", ["--projected-w", "gone.npz"], "No such file"),
        ("stylegan2", ["--projected-w", "text.npz"], "text.npz is not an .npz file of arrays"),
        ("stylegan2", ["--projected-w", "z.npz"], "has no array w, which this stylegan2 needs"),
        ("stylegan", ["--projected-w", "w.npz"], r"w must be finite numbers [N, 8, 16], got float32 [1, 5, 16]"),
        ("stylegan2", ["--outdir", "text.npz"], "--outdir text.npz: cannot make this folder (File exists)"),
        ("stylegan2", ["--seeds", "4294967296"], "Seed must be between 0 and 2**32 - 1"),
    ],
)
def test_what_does_not_apply_is_one_clear_line(
    family: str, options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    path = written(tmp_path, family)
    monkeypatch.chdir(tmp_path)
    Path("text.npz").write_text("no archive")
    np.savez("w.npz", w=np.zeros([1, 5, 16], np.float32))
    np.savez("z.npz", z=np.zeros([1, 16], np.float32))
    assert sample(path, "--seeds", "0", *options) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("gankern sample: ")
    assert said.count("\n") == 1


def test_a_missing_checkpoint_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sample(tmp_path / "gone.pkl", "--outdir", tmp_path / "out") == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()
