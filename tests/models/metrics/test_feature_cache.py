"""The files in which measurements of real images are kept."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from gankern.models.metrics.feature_cache import cache_path, default_folder, load_cached, save_cached
from gankern.models.training.data import ImageArray, open_data
from gankern.models.training.png import write_png


def test_what_was_saved_is_loaded_and_what_was_not_is_none(tmp_path: Path) -> None:
    path = cache_path(tmp_path / "new", kind="rows", num=3)
    assert load_cached(path) is None
    save_cached(path, {"rows": torch.arange(6.0).reshape(3, 2)})
    assert torch.equal(load_cached(path)["rows"], torch.arange(6.0).reshape(3, 2))
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_file_depends_on_every_value_and_not_on_their_order(tmp_path: Path) -> None:
    paths = {cache_path(tmp_path, kind=kind, num=num) for kind in "ab" for num in (1, 2)}
    assert len(paths) == 4
    assert cache_path(tmp_path, num=1, kind="a") in paths


def test_the_folder_is_the_users_cache_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GANKERN_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/gankern")
    monkeypatch.setenv("GANKERN_CACHE", "/elsewhere")
    assert default_folder() == Path("/elsewhere")


def image_folder(path: Path) -> Path:
    path.mkdir()
    for k in range(3):
        write_png(path / f"{k}.png", np.full((8, 8, 1), 50 * k, np.uint8))
    return path


def test_the_fingerprint_of_a_folder_changes_with_a_file(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images")
    before = open_data(str(folder)).fingerprint()
    assert open_data(str(folder)).fingerprint() == before
    os.utime(folder / "1.png", ns=(0, time.time_ns() + 10**9))
    assert open_data(str(folder)).fingerprint() != before


def test_the_fingerprint_of_a_zip_file_changes_with_its_contents_and_not_with_its_copy(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images")
    prints = []
    for name, last in (("a", 100), ("b", 100), ("c", 101)):
        write_png(folder / "2.png", np.full((8, 8, 1), last, np.uint8))
        (tmp_path / name).mkdir()
        with zipfile.ZipFile(tmp_path / name / "images.zip", "w") as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, file.name)
        prints.append(open_data(str(tmp_path / name / "images.zip")).fingerprint())
    assert prints[0] == prints[1]
    assert prints[0] != prints[2]


def test_the_fingerprint_of_images_in_memory_changes_with_a_pixel() -> None:
    images = torch.zeros(5, 1, 8, 8, dtype=torch.uint8)
    before = ImageArray("x", images).fingerprint()
    assert ImageArray("x", images.clone()).fingerprint() == before
    images[4, 0, 7, 7] = 1
    assert ImageArray("x", images).fingerprint() != before
