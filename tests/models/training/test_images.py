"""Sizes of images, and what the networks for them begin with."""

import numpy as np
import pytest
import torch

from gankern.models.training.images import ImageArray, nominal

SIZES = {
    (4, 4): (4, (4, 4)),
    (32, 32): (32, (4, 4)),
    (1024, 1024): (1024, (4, 4)),
    (48, 64): (64, (3, 4)),
    (64, 48): (64, (4, 3)),
    (96, 160): (128, (3, 5)),
    (28, 28): (16, (7, 7)),
    (192, 192): (128, (6, 6)),
    (64, 128): (128, (2, 4)),
    (16, 256): (64, (1, 16)),
    (768, 1280): (1024, (3, 5)),
}


@pytest.mark.parametrize(("size", "expected"), SIZES.items())
def test_a_size_is_its_base_doubled_until_it_is_there(
    size: tuple[int, int], expected: tuple[int, tuple[int, int]]
) -> None:
    resolution, base = nominal(*size)
    assert (resolution, base) == expected
    assert (base[0] * resolution // 4, base[1] * resolution // 4) == size


@pytest.mark.parametrize("size", [(2, 2), (0, 4), (1080, 1920), (17, 17), (3, 3)])
def test_a_size_that_no_small_base_doubles_to_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"got {size[1]}x{size[0]}"):
        nominal(*size)


def test_images_that_are_not_square_have_both_sides_and_a_nominal_resolution() -> None:
    data = ImageArray("wide", torch.zeros(3, 4, 48, 64, dtype=torch.uint8), np.arange(3))
    assert (data.height, data.width, data.resolution, data.base_size, data.channels) == (48, 64, 64, (3, 4), 4)


def test_two_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="channels must be 1, 3 or 4, got 2"):
        ImageArray("odd", torch.zeros(3, 2, 4, 4, dtype=torch.uint8))
