"""`gankern dataset`: what it writes, what it leaves out, and what it leaves behind when it fails."""

import json
import os
import shutil
import signal
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gankern.models import cli
from gankern.models.dataset import conversion
from gankern.models.training.data import open_data, open_with_labels

Image = pytest.importorskip("PIL.Image", reason="image files need Pillow")


def dataset(*args: object) -> int:
    return cli.main(["dataset", *map(str, args)])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two cats and a dog, of different sizes, as JPEG and PNG files in one folder each."""
    folder = tmp_path / "photos"
    rng = np.random.RandomState(0)
    for name, size in [("cat/1.jpg", (34, 21)), ("cat/2.png", (20, 30)), ("dog/3.png", (16, 16))]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.randint(0, 256, (size[1], size[0], 3), np.uint8)).save(folder / name)
    return folder


CROP = ["--resolution", "16x16", "--transform", "center-crop"]


@pytest.mark.parametrize("name", ["out.gankern", "out.zip", "out"])
def test_photographs_of_any_size_become_a_data_set(
    photos: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dataset(photos, tmp_path / name, *CROP) == 0
    data = open_data(str(tmp_path / name), cond=True)
    assert (len(data), data.height, data.width, data.channels) == (3, 16, 16, 3)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 1]
    with Image.open(photos / "dog/3.png") as image:
        assert torch.equal(data[2], torch.from_numpy(np.array(image)).permute(2, 0, 1))
    assert f"{tmp_path / name}: 3 images, 16x16 RGB, 2 classes by folder: cat, dog" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if "unfinished" in path.name] == []


def test_a_zip_is_what_published_tools_read(photos: Path, tmp_path: Path) -> None:
    dataset("--source", photos, "--dest", tmp_path / "out.zip", "--width", 16, "--height", 16)
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        infos = archive.infolist()
        labels = json.loads(archive.read("dataset.json"))
        png = archive.read("00000/img00000001.png")
    assert [info.filename for info in infos] == [f"00000/img0000000{k}.png" for k in range(3)] + ["dataset.json"]
    assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}
    assert labels == {"labels": [[f"00000/img0000000{k}.png", int(k == 2)] for k in range(3)]}
    assert len(png) > 16 * 16 * 3  # not compressed


def test_a_data_set_goes_through_every_format_unchanged(tmp_path: Path) -> None:
    assert dataset("digits:8", tmp_path / "a.gankern", "--max-images", 30) == 0
    for source, dest in [("a.gankern", "b.zip"), ("b.zip", "c"), ("c", "d.gankern")]:
        assert dataset(tmp_path / source, tmp_path / dest) == 0
    digits, again = open_data("digits:8", cond=True), open_with_labels(str(tmp_path / "d.gankern"))
    assert len(again) == 30
    assert torch.equal(again.read(np.arange(30)), digits.read(np.arange(30)))
    assert digits.labels is not None
    assert again.labels is not None
    assert again.labels.tolist() == digits.labels[:30].tolist()


def test_the_same_source_gives_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip", "a.gankern", "b.gankern"):
        dataset(photos, tmp_path / name, *CROP, "--workers", 1 if "a" in name else 3)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert (tmp_path / "a.gankern").read_bytes() == (tmp_path / "b.gankern").read_bytes()


def test_what_cannot_be_used_is_left_out_and_listed(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "cat/0.png").write_bytes(b"damaged")
    Image.new("L", (16, 16), 9).save(photos / "dog/4.png")
    out = tmp_path / "out.gankern"
    assert dataset(photos, out, *CROP) == 0
    printed = capsys.readouterr().out
    assert "left out: 1 images" in printed
    assert "cat/0.png: no image in a known format" in printed
    assert (tmp_path / "out.gankern.skipped.txt").read_text().startswith("cat/0.png: no image in a known format")
    data = open_with_labels(str(out))
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert (data[3] == 9).all()  # grey among colour


def test_images_of_another_size_or_colour_than_the_first_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, mode, size in [("a", "L", 8), ("b", "RGB", 8), ("c", "L", 16), ("d", "L", 8)]:
        Image.new(mode, (size, size)).save(tmp_path / "in" / f"{name}.png")
    assert dataset(tmp_path / "in", tmp_path / "out.zip") == 0
    assert (tmp_path / "out.zip.skipped.txt").read_text().splitlines() == [
        "b.png: expected a grey image, got RGB",
        "c.png: expected 8x8 like the first image, got 16x16; --resolution makes all of one size",
    ]
    assert dataset(tmp_path / "in", tmp_path / "grey.zip", "--channels", "grey", "--resolution", "8x8") == 0
    assert len(open_data(str(tmp_path / "grey.zip"))) == 4


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--strict", *CROP], "cat/0.png: no image in a known format"),
        ([], "expected images of k * 2^n pixels"),
        (["--transform", "center-crop"], "--transform center-crop needs --resolution"),
        (["--width", "16"], "--width with --height"),
        (["--resolution", "64x64", "--transform", "center-crop-wide"], "none of 4 images can be used"),
    ],
)
@pytest.mark.parametrize("name", ["out.gankern", "out.zip", "out"])
def test_a_run_that_fails_leaves_nothing(
    photos: Path, tmp_path: Path, args: list[str], message: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "cat/0.png").write_bytes(b"damaged")
    assert dataset(photos, tmp_path / name, *args) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_leaves_nothing(
    photos: Path, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*args: Any) -> np.ndarray:
        os.kill(os.getpid(), number)
        return np.zeros((16, 16, 3), np.uint8)

    monkeypatch.setattr(conversion, "with_channels", stopped)
    assert dataset(photos, tmp_path / "out.zip", *CROP) == 130
    assert "interrupted" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_full_disk_leaves_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gankern.models.training.packed.PackedWriter.add", full)
    assert dataset(photos, tmp_path / "out.gankern", *CROP) == 1
    assert f"no room for {tmp_path / 'out.gankern'}, " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_nothing_is_overwritten(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out.zip").write_text("precious")
    assert dataset(photos, tmp_path / "out.zip", *CROP) == 1
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "out.zip").read_text() == "precious"
    (tmp_path / "empty").mkdir()
    assert dataset(photos, tmp_path / "empty", *CROP) == 0
    assert len(open_data(str(tmp_path / "empty"))) == 3


def test_source_and_dest_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert dataset("only-one") == 1
    assert "expected SOURCE and DEST, got only-one" in capsys.readouterr().err
    assert dataset("nowhere", "out.zip") == 1
    assert "nowhere" in capsys.readouterr().err
    assert not Path("out.zip").exists()


def test_images_that_are_not_square_and_have_alpha_stay_so(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGBA", (64, 48), (1, 2, 3, 4)).save(tmp_path / "in" / "a.png")
    for name in ("out.gankern", "out.zip"):
        assert dataset(tmp_path / "in", tmp_path / name) == 0
        data = open_data(str(tmp_path / name))
        assert (data.height, data.width, data.channels, data.base_size, data.resolution) == (48, 64, 4, (3, 4), 64)
        assert data[0][:, 5, 5].tolist() == [1, 2, 3, 4]


def test_training_takes_what_the_command_writes(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.gankern"
    assert dataset(photos, out, *CROP) == 0
    shutil.rmtree(photos)
    assert cli.main(["train", "-n", "--data", str(out), "--cond", "--device", "cpu"]) == 0
    assert f"data     {out}: 3 images, 16x16 RGB, 2 classes" in capsys.readouterr().out


def test_networks_are_made_for_the_size_of_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dataset("digits:8", tmp_path / "out.gankern", "--resolution", "64x48") == 0
    assert cli.main(["train", "-n", "--data", str(tmp_path / "out.gankern"), "--device", "cpu"]) == 0
    assert '"img_resolution": 64' in (out := capsys.readouterr().out)
    assert '"base_size": [3, 4]' in out
