"""Which images a run sees, and in which order."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from gankern.models.training.data import ImageArray, ImageData, batches, epoch_order, open_data, to_float, to_uint8


def numbered(n: int) -> ImageArray:
    """n images of 4x4; image k is k everywhere but 255 in its left column, its class is k mod 3."""
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].repeat(1, 1, 4, 4)
    images[..., 0] = 255
    return ImageArray("numbered", images, np.arange(n) % 3)


def seen(data: ImageData, count: int, **options: int | bool) -> list[int]:
    """The numbers of the first images that `batches` deals out, mirror images with a minus."""
    images = torch.cat([images for images, _ in islice(batches(data, 4, **options), count)])
    return [int(x[0, 0, 1]) if x[0, 0, 0] == 255 else -int(x[0, 0, 1]) for x in images]


def test_each_epoch_shows_each_image_once_in_an_order_of_its_own() -> None:
    order = seen(numbered(12), 6, seed=5)
    assert sorted(order[:12]) == sorted(order[12:]) == list(range(12))
    assert order[:12] != order[12:]


def test_the_order_depends_on_the_seed() -> None:
    assert seen(numbered(12), 3, seed=1) != seen(numbered(12), 3, seed=2)


@pytest.mark.parametrize("start", [4, 8, 20])
def test_starting_later_continues_the_same_order(start: int) -> None:
    whole = seen(numbered(10), 10, seed=3)
    assert seen(numbered(10), (40 - start) // 4, seed=3, start=start) == whole[start:]


def test_the_order_of_an_epoch_stays_what_it_was_in_earlier_releases() -> None:
    assert epoch_order(8, 0, 0).tolist() == [3, 7, 4, 0, 2, 6, 5, 1]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_the_order(image_folder: Path, workers: int) -> None:
    def first_images(workers: int) -> torch.Tensor:
        dealt = batches(open_data(str(image_folder)), 4, seed=7, start=4, mirror=True, workers=workers)
        return torch.cat([images for images, _ in islice(dealt, 7)])

    assert torch.equal(first_images(workers), first_images(0))


def test_mirror_doubles_the_data_with_mirror_images() -> None:
    order = seen(numbered(6), 3, mirror=True)
    assert sorted(k for k in order if k > 0) == [1, 2, 3, 4, 5]
    assert sorted(-k for k in order if k < 0) == [1, 2, 3, 4, 5]


def test_labels_belong_to_their_images_also_when_mirrored() -> None:
    for images, labels in islice(batches(numbered(6), 4, mirror=True), 6):
        number = images[:, 0, 0, 1].long()
        assert torch.equal(labels, torch.eye(3)[number % 3])


def test_bytes_become_floats_from_minus_one_to_one_and_back() -> None:
    x = torch.arange(256, dtype=torch.uint8)
    assert to_float(x)[0] == -1
    assert to_float(x)[255] == 1
    assert torch.equal(to_uint8(to_float(x)), x)
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_cond_without_labels_is_refused(image_folder: Path) -> None:
    with pytest.raises(ValueError, match="no labels"):
        open_data(str(image_folder), cond=True)


def test_without_cond_labels_are_dropped() -> None:
    data = open_data("digits:8")
    assert data.c_dim == 0
    assert data.num_classes is None
    assert data.encode_labels(np.arange(3)).shape == (3, 0)


@pytest.mark.parametrize("source", ["digits:x", "digits:64", "photos:12"])
def test_an_unknown_size_of_embedded_data_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match=source.partition(":")[0]):
        open_data(source)


def test_a_path_that_does_not_exist_is_named() -> None:
    pytest.importorskip("PIL", reason="image files need Pillow")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.zip"):
        open_data("nowhere.zip")
