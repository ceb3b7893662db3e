"""Folders and zip files of images, and what is wrong with them."""

import builtins
import json
import multiprocessing
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gankern.models.training.image_files import ImageFiles

Image = pytest.importorskip("PIL.Image", reason="image files need Pillow")


def zipped(folder: Path, compression: int) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def write_labels(folder: Path, labels: Any) -> None:
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png"))


def test_a_folder_and_its_zips_hold_the_same_images(image_folder: Path) -> None:
    folder = ImageFiles(image_folder)
    stored = ImageFiles(zipped(image_folder, zipfile.ZIP_STORED))
    images = [folder[k] for k in range(10)]
    assert [tuple(x[:, 0, 0].tolist()) for x in images] == [(k, 2 * k, 3 * k) for k in range(10)]
    assert all(torch.equal(x, stored[k]) for k, x in enumerate(images))
    deflated = ImageFiles(zipped(image_folder, zipfile.ZIP_DEFLATED))
    assert all(torch.equal(x, deflated[k]) for k, x in enumerate(images))
    assert (folder.resolution, folder.channels, len(folder), folder.c_dim) == (8, 3, 10, 0)


def test_an_open_zip_can_be_sent_to_a_worker(image_folder: Path) -> None:
    data = ImageFiles(zipped(image_folder, zipfile.ZIP_STORED))
    assert torch.equal(pickle.loads(pickle.dumps(data))[3], data[3])


def test_forked_processes_may_read_one_open_zip_at_once(image_folder: Path) -> None:
    data = ImageFiles(zipped(image_folder, zipfile.ZIP_DEFLATED))
    reds = [int(data[k][0, 0, 0]) for k in range(10)]
    with multiprocessing.get_context("fork").Pool(2, _inherit, [data]) as pool:
        assert pool.map(_red, list(range(10)) * 5, chunksize=1) == reds * 5


def _inherit(data: ImageFiles) -> None:
    inherited.append(data)


def _red(index: int) -> int:
    return int(inherited[0][index][0, 0, 0])


inherited: list[ImageFiles] = []


def test_what_macos_adds_to_a_folder_is_no_image(image_folder: Path) -> None:
    (image_folder / "._img3.png").write_bytes(b"no image")
    assert len(ImageFiles(image_folder)) == 10


def test_integer_labels_become_one_hot(image_folder: Path) -> None:
    write_labels(image_folder, [[name, k % 4] for k, name in enumerate(names(image_folder))])
    data = ImageFiles(zipped(image_folder, zipfile.ZIP_STORED))
    assert data.num_classes == 4
    assert torch.equal(data.encode_labels(np.array([0, 5, 7])), torch.eye(4)[[0, 1, 3]])


def test_label_vectors_stay_as_they_are(image_folder: Path) -> None:
    write_labels(image_folder, [[name, [k / 10, 1.0]] for k, name in enumerate(names(image_folder))])
    data = ImageFiles(image_folder)
    assert data.c_dim == 2
    assert data.num_classes is None
    assert torch.equal(data.encode_labels(np.array([3])), torch.tensor([[0.3, 1.0]]))


def test_null_labels_are_no_labels(image_folder: Path) -> None:
    write_labels(image_folder, None)
    assert ImageFiles(image_folder).labels is None


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([["img0.png", 1]], "no label for img1.png"),
        ("nonsense", "must be"),
        ([[f"img{k}.png", [0.0] * (k + 1)] for k in range(7)], "no label for sub/img7.png"),
    ],
)
def test_unusable_labels_are_refused(image_folder: Path, labels: Any, message: str) -> None:
    write_labels(image_folder, labels)
    with pytest.raises(ValueError, match=message):
        ImageFiles(image_folder)


@pytest.mark.parametrize("wrong", [[[0.0, 1.0], [0.0]], [-1, 2], [0.5, 1.5], ["a", "b"]])
def test_labels_of_a_wrong_kind_are_refused(image_folder: Path, wrong: list[Any]) -> None:
    write_labels(image_folder, [[name, wrong[k % 2]] for k, name in enumerate(names(image_folder))])
    with pytest.raises(ValueError, match=r"dataset\.json"):
        ImageFiles(image_folder)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("LA", 1), ("1", 1), ("RGB", 3), ("RGBA", 4), ("P", 3)])
def test_every_8_bit_mode_is_read(tmp_path: Path, mode: str, channels: int) -> None:
    Image.new(mode, (4, 4)).save(tmp_path / "a.png")
    assert ImageFiles(tmp_path)[0].shape == (channels, 4, 4)


def test_16_bit_images_are_refused(tmp_path: Path) -> None:
    Image.new("I;16", (4, 4)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png.*16 bits"):
        ImageFiles(tmp_path)


def test_grey_among_rgb_is_repeated_and_colour_among_grey_refused(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 9).save(tmp_path / "b-grey.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "c-colour.png")
    with pytest.raises(ValueError, match=r"c-colour\.png must be grey like b-grey\.png"):
        ImageFiles(tmp_path)[1]
    Image.new("RGB", (4, 4)).save(tmp_path / "a-colour.png")
    assert torch.equal(ImageFiles(tmp_path)[1], torch.full((3, 4, 4), 9, dtype=torch.uint8))


@pytest.mark.parametrize("damage", [b"", b"not an image", "truncated"])
def test_a_corrupt_file_is_named(image_folder: Path, damage: bytes | str) -> None:
    file = image_folder / "sub" / "img8.png"
    file.write_bytes(damage if isinstance(damage, bytes) else file.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"cannot read .*sub/img8\.png"):
        ImageFiles(image_folder)[8]


def test_a_corrupt_member_of_a_zip_is_named(image_folder: Path) -> None:
    path = zipped(image_folder, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        content[archive.getinfo("img4.png").header_offset + 60] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read .*img4\.png"):
        ImageFiles(path)[4]


def test_a_file_of_another_size_is_named_with_both_sizes(image_folder: Path) -> None:
    Image.new("RGB", (16, 8)).save(image_folder / "img5.png")
    with pytest.raises(ValueError, match=r"img5\.png must be 8x8 like img0\.png, got 16x8"):
        ImageFiles(image_folder)[5]


@pytest.mark.parametrize("size", [(17, 34), (2, 2)])
def test_sizes_that_the_networks_cannot_make_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "odd.png")
    with pytest.raises(ValueError, match=rf"got {size[0]}x{size[1]}"):
        ImageFiles(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing here")
    with pytest.raises(ValueError, match="no image files"):
        ImageFiles(tmp_path)


def test_a_broken_zip_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match=r"broken\.zip is not a readable zip"):
        ImageFiles(tmp_path / "broken.zip")


def test_without_pillow_the_extra_is_named(image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def no_pillow(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("PIL"):
            raise ModuleNotFoundError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_pillow)
    with pytest.raises(ModuleNotFoundError, match=r"gankern\[train\]"):
        ImageFiles(image_folder)
