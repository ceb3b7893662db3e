"""The data sets that need no download."""

import importlib.util

import numpy as np
import pytest
import torch

from gankern.models.training import embedded


@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_digits_are_1797_grey_images_of_ten_classes(resolution: int) -> None:
    data = embedded.digits(resolution)
    assert data.images.shape == (1797, 1, resolution, resolution)
    assert data.images.dtype == torch.uint8
    assert data.num_classes == data.c_dim == 10
    assert data.labels is not None
    assert np.bincount(data.labels).min() >= 174


def test_digits_at_8_pixels_are_the_scans_with_16_as_white() -> None:
    data = embedded.digits(8)
    assert set(data.images.unique().tolist()) <= {round(k * 255 / 16) for k in range(17)}


def test_enlarged_digits_keep_their_brightness() -> None:
    small, large = embedded.digits(8).images.float().mean(), embedded.digits(32).images.float().mean()
    assert abs(small - large) < 2  # clamping of bicubic overshoot moves it by less


def test_photo_crops_lie_inside_their_photo_and_are_always_the_same() -> None:
    photos = [torch.full((3, 40, 30), k, dtype=torch.uint8) for k in range(4)]
    photos[2][:] = torch.arange(40 * 30).reshape(40, 30) % 251
    data, again = embedded.PhotoCrops(photos, 16), embedded.PhotoCrops(photos, 16)
    assert len(data) == 4 * embedded.CROPS_PER_PHOTO
    assert data.num_classes == 4
    assert all(data[k].shape == (3, 16, 16) for k in range(200))
    assert torch.equal(data[7], torch.full((3, 16, 16), 3, dtype=torch.uint8))
    assert torch.equal(data[2], again[2])
    assert not torch.equal(data[2], data[6])


def test_photos_without_scikit_image_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"gankern\[photos\]"):
        embedded.photos()


def test_photos_are_six_classes_of_rgb_crops() -> None:
    pytest.importorskip("skimage", reason="the photographs come with scikit-image")
    data = embedded.photos(64)
    assert data[0].shape == (3, 64, 64)
    assert data.num_classes == 6
