"""MS-SSIM."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from gankern.models.metrics import ms_ssim as module
from gankern.models.metrics.ms_ssim import WEIGHTS, ms_ssim, pairwise_ms_ssim


def pair(n: int, size: int, noise: float, channels: int = 3) -> tuple[Tensor, Tensor]:
    coarse = torch.rand(n, channels, size // 8, size // 8, dtype=torch.float64)
    x = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear") * 255
    return x, (x + noise * torch.randn_like(x)).clamp(0, 255)


def by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """One pair [C, H, W], a window at a time."""
    result = 1.0
    for k, weight in enumerate(WEIGHTS):
        size = min(11, *x.shape[1:])
        offset = np.arange(size) - (size - 1) / 2
        taps = np.exp(-(offset**2) / (2 * (1.5 * size / 11) ** 2))
        window = np.outer(taps, taps) / taps.sum() ** 2
        ssim, contrast = [], []
        for a, b in zip(x, y, strict=True):
            for i in range(a.shape[0] - size + 1):
                for j in range(a.shape[1] - size + 1):
                    p, q = a[i : i + size, j : j + size], b[i : i + size, j : j + size]
                    mean_p, mean_q = (window * p).sum(), (window * q).sum()
                    var_p, var_q = (window * (p - mean_p) ** 2).sum(), (window * (q - mean_q) ** 2).sum()
                    cov = (window * (p - mean_p) * (q - mean_q)).sum()
                    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
                    contrast.append((2 * cov + c2) / (var_p + var_q + c2))
                    ssim.append(contrast[-1] * (2 * mean_p * mean_q + c1) / (mean_p**2 + mean_q**2 + c1))
        result *= max(np.mean(ssim if k == 4 else contrast), 0.0) ** weight
        x, y = ((v[:, ::2, ::2] + v[:, 1::2, ::2] + v[:, ::2, 1::2] + v[:, 1::2, 1::2]) / 4 for v in (x, y))
    return result


@pytest.mark.parametrize(("size", "noise"), [(16, 20.0), (32, 60.0)])
def test_it_is_the_published_definition(size: int, noise: float) -> None:
    x, y = pair(2, size, noise, channels=2)
    expected = [by_definition(a.numpy(), b.numpy()) for a, b in zip(x, y, strict=True)]
    assert 0.1 < min(expected) < 0.99
    torch.testing.assert_close(ms_ssim(x, y), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=0)


def test_one_scale_agrees_with_torchmetrics() -> None:
    image = pytest.importorskip("torchmetrics.functional.image", reason="torchmetrics is not installed")
    x, y = pair(1, 64, 30.0)
    _, contrast = image.structural_similarity_index_measure(
        x, y, data_range=255.0, return_contrast_sensitivity=True, sigma=1.5
    )
    assert module._ssim(x, y, 255.0)[1].item() == pytest.approx(contrast.item(), rel=1e-6)


def test_equal_images_are_one_and_their_order_does_not_matter() -> None:
    x, y = pair(3, 32, 40.0)
    torch.testing.assert_close(ms_ssim(x, x), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(ms_ssim(x, y), ms_ssim(y, x))
    assert (ms_ssim(x, y) < 1).all()


def test_opposite_images_are_clipped_to_zero() -> None:
    x, _ = pair(2, 32, 0.0)
    assert ms_ssim(x, 255 - x).tolist() == [0.0, 0.0]


def test_pairs_are_neighbours() -> None:
    images = torch.randint(0, 256, (6, 1, 16, 16), dtype=torch.uint8)
    expected = [ms_ssim(images[i : i + 1], images[i + 1 : i + 2]).item() for i in (0, 2, 4)]
    assert pairwise_ms_ssim(images).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ms_ssim(torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 32, 32)), "alike"),
        (lambda: ms_ssim(torch.zeros(1, 1, 24, 24), torch.zeros(1, 1, 24, 24)), r"divisible by 16, got \[24, 24\]"),
        (lambda: pairwise_ms_ssim(torch.zeros(3, 1, 16, 16)), "even number of images, got 3"),
    ],
)
def test_images_that_do_not_suit_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
