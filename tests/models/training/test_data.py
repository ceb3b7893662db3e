"""Which images a run sees, and in which order."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from gankern.models.training.data import ImageArray, ImageData, batches, epoch_order, open_data, to_float, to_uint8
from gankern.models.training.image_files import ImageFiles


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


def dealt(data: ImageData, workers: int) -> Iterator[torch.Tensor]:
    return (images for images, _ in batches(data, 2, workers=workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_read_is_named_in_one_line_when_its_turn_comes(
    image_folder: Path, workers: int
) -> None:
    data = open_data(str(image_folder))
    assert isinstance(data, ImageFiles)
    order = epoch_order(10, 0, 0)
    bad = image_folder / data.files[order[5]]
    bad.write_bytes(b"damaged")
    images = dealt(data, workers)
    assert [len(next(images)) for _ in range(2)] == [2, 2]
    with pytest.raises(ValueError, match=rf"^data: cannot read {bad} \(no image in a known format[^\n]*$"):
        next(images)


@pytest.mark.parametrize("workers", [0, 1])
def test_data_that_vanish_are_an_error_of_one_line(image_folder: Path, workers: int) -> None:
    images = dealt(open_data(str(image_folder)), workers)
    next(images)
    image_folder.rename(image_folder.with_name("elsewhere"))
    with pytest.raises(FileNotFoundError, match=rf"^data: {image_folder} is no longer there[^\n]*$"):
        list(islice(images, 5))


def test_a_worker_that_is_killed_is_an_error_and_no_hang(image_folder: Path) -> None:
    before = signal.getsignal(signal.SIGCHLD)
    images = dealt(open_data(str(image_folder)), 2)
    next(images)
    assert signal.getsignal(signal.SIGCHLD) == before
    worker = multiprocessing.active_children()[0]
    os.kill(worker.pid or 0, signal.SIGKILL)
    start = time.monotonic()
    with pytest.raises(ChildProcessError, match=r"^data: a process that reads images has ended: [^\n]*$"):
        list(islice(images, 100))
    assert time.monotonic() - start < 30


def test_workers_do_not_outlive_a_program_that_fails_elsewhere(image_folder: Path) -> None:
    program = """
import sys
from gankern.models.training.data import batches, open_data
dealt = batches(open_data(sys.argv[1]), 2, workers=2)
next(dealt)
raise RuntimeError("something else")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(image_folder)], capture_output=True, text=True, timeout=60
    )
    assert done.stderr.endswith("RuntimeError: something else\n")


def test_workers_end_with_the_batches(image_folder: Path) -> None:
    images = dealt(open_data(str(image_folder)), 2)
    next(images)
    assert len(multiprocessing.active_children()) == 2
    del images
    gc.collect()
    assert multiprocessing.active_children() == []


def test_a_worker_reads_ahead_no_more_than_it_is_told(image_folder: Path) -> None:
    def indices(position: int) -> int:
        asked.append(position)
        return 2

    asked: list[int] = []
    next(batches(open_data(str(image_folder)), indices, workers=1, prefetch=3))
    assert max(asked) <= 2 * 4


def test_an_image_is_described_with_size_kind_and_labels(image_folder: Path) -> None:
    assert open_data(str(image_folder)).describe() == "10 images, 8x8 RGB"
    assert open_data("digits:8", cond=True).describe() == "1797 images, 8x8 grey, 10 classes"
    vectors = ImageArray("v", torch.zeros(2, 4, 4, 8, dtype=torch.uint8), np.zeros((2, 5), np.float32))
    assert vectors.describe() == "2 images, 8x4 RGBA, labels of 5 numbers"
