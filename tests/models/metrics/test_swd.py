"""Sliced Wasserstein distance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from gankern.models.metrics import swd as module
from gankern.models.metrics.swd import Patches, laplacian_pyramid, level_sizes, pyramid_down, pyramid_up, swd

BINOMIAL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


@pytest.fixture(autouse=True)
def few_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATCHES_PER_IMAGE", 16)


def mirrored(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """`kernel` over x [H, W], borders mirrored without repeating the edge, a tap at a time."""
    padded = np.pad(x, 2, mode="reflect")
    height, width = x.shape
    return sum(kernel[i, j] * padded[i : i + height, j : j + width] for i in range(5) for j in range(5))


def textures(n: int, size: int, channels: int = 3, seed: int = 0) -> Tensor:
    """Smooth random images."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, channels, size // 4, size // 4, generator=generator)
    x = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic", align_corners=False)
    return (x * 200 + 20 + 10 * torch.randn(x.shape, generator=generator)).clamp(0, 255).to(torch.uint8)


def patches_of(images: Tensor, seed: int = 0, batch: int = 64) -> Patches:
    patches = Patches(len(images), tuple(images.shape[2:]), images.shape[1], seed)
    for first in range(0, len(images), batch):
        patches.add(first, images[first : first + batch])
    return patches


def test_the_pyramid_filters_with_mirrored_borders() -> None:
    x = torch.rand(2, 3, 32, 64, dtype=torch.float64)
    down = pyramid_down(x)
    expected = np.stack([[mirrored(c, BINOMIAL)[::2, ::2] for c in image] for image in x.numpy()])
    np.testing.assert_allclose(down.numpy(), expected, atol=1e-12)
    stuffed = np.zeros(x.shape)
    stuffed[:, :, ::2, ::2] = down
    expected = np.stack([[mirrored(c, 4 * BINOMIAL) for c in image] for image in stuffed])
    np.testing.assert_allclose(pyramid_up(down).numpy(), expected, atol=1e-12)


def test_the_pyramid_can_be_undone() -> None:
    x = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    fine, middle, rest = laplacian_pyramid(x, 3)
    torch.testing.assert_close(pyramid_up(pyramid_up(rest) + middle) + fine, x)


def test_levels_end_at_sixteen_pixels() -> None:
    assert level_sizes((128, 128)) == [(128, 128), (64, 64), (32, 32), (16, 16)]
    assert level_sizes((32, 64)) == [(32, 64), (16, 32)]
    assert len(level_sizes((1024, 1024))) == 7


def by_definition(real: Tensor, fake: Tensor, seeds: tuple[int, int], seed: int) -> list[float]:
    """The metric patch by patch in NumPy, for the same corners and directions, grey tiled to three channels."""
    sets = []
    for images, corner_seed in zip((real, fake), seeds, strict=True):
        corners = Patches(len(images), tuple(images.shape[2:]), images.shape[1], corner_seed).corners
        x = images.expand(-1, 3, -1, -1).double().numpy()
        levels = []
        while x.shape[-1] > 16:
            down = np.stack([[mirrored(c, BINOMIAL)[::2, ::2] for c in image] for image in x])
            stuffed = np.zeros(x.shape)
            stuffed[:, :, ::2, ::2] = down
            levels.append(x - np.stack([[mirrored(c, 4 * BINOMIAL) for c in image] for image in stuffed]))
            x = down
        levels.append(x)
        descriptors = []
        for level, places in zip(levels, corners, strict=True):
            cut = [level[i, :, y : y + 7, x : x + 7] for i, of in enumerate(places.tolist()) for y, x in of]
            d = np.stack(cut)  # [N, 3, 7, 7]
            d = (d - d.mean((0, 2, 3), keepdims=True)) / d.std((0, 2, 3), keepdims=True)
            descriptors.append(d.reshape(len(d), 147))
        sets.append(descriptors)
    generator = torch.Generator().manual_seed(seed)
    result = []
    for a, b in zip(*sets, strict=True):
        repeats = []
        for _ in range(4):
            v = torch.randn(3, 49, 128, generator=generator).double().numpy().reshape(147, 128)
            v /= np.sqrt((v**2).sum(0))
            repeats.append(np.abs(np.sort(a @ v, axis=0) - np.sort(b @ v, axis=0)).mean())
        result.append(np.mean(repeats) * 1e3)
    return result


@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_the_published_definition(channels: int) -> None:
    real, fake = textures(20, 32, channels, 1), textures(20, 32, channels, 2)
    found = swd(patches_of(real, 4), patches_of(fake, 5), seed=6)
    expected = by_definition(real, fake, (4, 5), 6)
    assert [found["swd_32"], found["swd_16"]] == pytest.approx(expected, rel=1e-5)
    assert found["swd"] == pytest.approx(np.mean(expected), rel=1e-5)


def test_centres_reach_every_place_that_a_patch_fits() -> None:
    corners = Patches(500, (16, 32), 1).corners[0]
    assert corners.amin((0, 1)).tolist() == [0, 0]
    assert corners.amax((0, 1)).tolist() == [16 - 7, 32 - 7]


def test_equal_sets_are_at_distance_zero_and_others_are_not() -> None:
    images = textures(40, 32)
    assert swd(patches_of(images), patches_of(images)) == {"swd_32": 0.0, "swd_16": 0.0, "swd": 0.0}
    # each set is standardised by itself, so that neither brightness nor contrast count, but structure does
    assert swd(patches_of(images), patches_of(images.flip(3)), seed=1)["swd"] > 1


def test_two_draws_of_the_same_images_give_a_floor_that_falls_with_their_number() -> None:
    small = swd(patches_of(textures(64, 16, seed=1), 1), patches_of(textures(64, 16, seed=2), 2))["swd"]
    large = swd(patches_of(textures(1024, 16, seed=1), 1), patches_of(textures(1024, 16, seed=2), 2))["swd"]
    assert 0 < large < 0.5 * small  # the error of a sample falls with the root of its size: a quarter
    noise = torch.randint(0, 256, (1024, 3, 16, 16), dtype=torch.uint8)
    other = swd(patches_of(textures(1024, 16, seed=1), 1), patches_of(noise, 2))["swd"]
    assert other > small


def test_the_batch_size_changes_nothing() -> None:
    real, fake = textures(50, 32, seed=1), textures(50, 32, seed=2)
    whole = swd(patches_of(real, 1, batch=50), patches_of(fake, 2, batch=50))
    parts = swd(patches_of(real, 1, batch=7), patches_of(fake, 2, batch=16))
    assert parts == pytest.approx(whole, rel=1e-6)


def test_the_order_in_which_images_come_changes_nothing() -> None:
    images = textures(30, 16)
    backwards = Patches(30, (16, 16), 3)
    for first in (20, 0, 10):
        backwards.add(first, images[first : first + 10])
    other = patches_of(textures(30, 16, seed=9), 1)
    assert swd(backwards, other) == pytest.approx(swd(patches_of(images), other), rel=1e-6)


def test_it_does_not_touch_the_global_random_numbers() -> None:
    before = torch.get_rng_state()
    patches = patches_of(textures(4, 16))
    swd(patches, patches)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_constant_channel_is_no_division_by_zero() -> None:
    black = torch.zeros(4, 3, 16, 16, dtype=torch.uint8)
    assert swd(patches_of(black), patches_of(black))["swd"] == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Patches(4, (8, 8)), "at least 16x16, got 8x8"),
        (lambda: Patches(4, (16, 16), 2), "channels must be 1 or 3, got 2"),
        (lambda: Patches(4, (33, 33)), "halve down to 16, got 33x33"),
        (lambda: Patches(4, (16, 16), 1).add(0, torch.zeros(2, 3, 16, 16)), r"must be \[n, 1, 16, 16\]"),
        (lambda: Patches(4, (16, 16), 1).add(3, torch.zeros(2, 1, 16, 16)), "expected 4 images, got number 5"),
        (lambda: swd(patches_of(textures(4, 16)), patches_of(textures(4, 32))), "one shape"),
        (lambda: swd(patches_of(textures(4, 16)), patches_of(textures(5, 16))), "same number of patches"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
