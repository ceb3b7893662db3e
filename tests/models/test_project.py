"""`gankern project`, from its options to what it leaves behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_checkpoints import written

from gankern.models import cli
from gankern.models.project import read_target
from gankern.models.training.png import read_png


def gankern(*args: object) -> int:
    return cli.main([*(str(arg) for arg in args), "--device", "cpu"])


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gankern.models.projection.CANDIDATES", 8)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.zeros([60, 100, 3], np.uint8)
    pixels[:, 20:80] = np.linspace(0, 255, 60)[:, None, None]  # the middle 60x60, in an unlike frame
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize(("family", "result"), [("stylegan2", "projected_w.npz"), ("biggan", "projected_z.npz")])
def test_the_result_is_written_and_sample_draws_it_again(
    family: str, result: str, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = written(tmp_path, family, img_channels=3), tmp_path / "out"
    assert gankern("project", path, "--target", photo, "--num-steps", 4, "--outdir", out) == 0
    said = capsys.readouterr()
    assert "the distance fell from" in said.out
    assert "steps ############################## 4/4" in said.err
    assert {p.name for p in out.iterdir()} - {"proj.mp4", "proj.webp"} == {"target.png", "proj.png", result}
    assert len(list(out.iterdir())) == 4
    assert np.load(out / result)[result[10]].shape == ((1, 8, 16) if family == "stylegan2" else (1, 16))
    assert gankern("sample", path, "--projected-w", out / result, "--outdir", tmp_path / "again") == 0
    assert (read_png(out / "proj.png") == read_png(tmp_path / "again" / "proj00.png")).all()


def test_a_seed_gives_the_same_result_and_the_video_can_be_left_out(photo: Path, tmp_path: Path) -> None:
    path, options = (
        written(tmp_path, "stylegan", c_dim=0),
        ["--target", photo, "--num-steps", 3, "--save-video", 0, "--outdir"],
    )
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert gankern("project", path, *options, tmp_path / name, "--seed", seed) == 0
    a, b, c = (np.load(tmp_path / name / "projected_w.npz")["w"] for name in "abc")
    assert (a == b).all()
    assert (a != c).any()
    assert not list(tmp_path.glob("a/proj.[mw]*"))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_networks_of_low_precision_are_projected_in_fp32(precision: str, photo: Path, tmp_path: Path) -> None:
    path = written(tmp_path, "stylegan2", c_dim=0, precision=precision, num_fp16_res=2)
    options = ["--num-steps", 2, "--distance", "discriminator", "--outdir", tmp_path / "out"]
    assert gankern("project", path, "--target", photo, *options) == 0
    assert np.isfinite(np.load(tmp_path / "out" / "projected_w.npz")["w"]).all()


def test_the_target_is_the_middle_of_the_image(photo: Path) -> None:
    target = read_target(photo, (3, 32, 32))
    assert target.shape == (1, 3, 32, 32)
    assert (target.diff(dim=2) > 0).all()  # no black frame
    assert target.max() <= 1
    assert read_target(photo, (1, 16, 24)).shape == (1, 1, 16, 24)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "gone.png"], "--target: no file gone.png"),
        (["--target", "text.png"], "--target: text.png is not an image that Pillow reads"),
        (["--num-steps", "0"], "--num-steps must be at least 1, got 0"),
        (["--class", "9"], "--class must be below the model's number of classes = 3, got 9"),
        (["--vgg", "gone.pt"], "no file gone.pt; needs vgg16.pt"),
        (["--vgg", "gone.pt", "--distance", "pixels"], "--vgg and --distance exclude each other"),
        (["--distance", "discriminator"], "--distance discriminator: only_g.safetensors has none"),
    ],
)
def test_what_does_not_work_is_one_clear_line(
    options: list[str], message: str, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    source = written(tmp_path, "stylegan2")
    assert cli.main(["convert", str(source), "only_g.safetensors", "--which", "G_ema"]) == 0
    Path("text.png").write_text("no image")
    assert gankern("project", "only_g.safetensors", "--target", photo, *options) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not Path("projected").exists()
