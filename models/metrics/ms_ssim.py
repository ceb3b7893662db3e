"""MS-SSIM between generated images: how alike they are. Lower means more variety; 1 means one image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NUM_IMAGES = 20_000
FILTER_SIZE, FILTER_SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # finest scale first


def ms_ssim(x: Tensor, y: Tensor, data_range: float = 255.0) -> Tensor:
    """Multi-scale structural similarity of image pairs, in float64.

    prod_{k < 5} max(cs_k, 0)^w_k * max(ssim_5, 0)^w_5, with the scales made by averaging 2x2 pixels. Statistics are
    taken under a Gaussian window of 11x11 pixels and deviation 1.5, inside the image only; where the image is smaller
    than that, window and deviation shrink with it.

    Args:
        x, y: Images [N, C, H, W] in [0, data_range]; H and W divisible by 16.
        data_range: Difference of the largest and the smallest value.

    Returns:
        Similarities [N], in [0, 1].

    Raises:
        ValueError: The shapes differ, or the size is not divisible by 16.

    Source: Wang et al., "Multiscale Structural Similarity for Image Quality Assessment", 2003, equation 7; as a
        measure of variety: Odena et al., "Conditional Image Synthesis with Auxiliary Classifier GANs", 2017,
        section 4.2; the clipped values and the shrinking window as used for Karras et al., "Progressive Growing of
        GANs", 2018.
    """
    if x.shape != y.shape or x.ndim != 4:
        raise ValueError(f"ms_ssim: x and y must be [N, C, H, W] alike, got {list(x.shape)} and {list(y.shape)}")
    coarsest = 2 ** (len(WEIGHTS) - 1)
    if x.shape[2] % coarsest or x.shape[3] % coarsest:
        raise ValueError(f"ms_ssim: height and width must be divisible by {coarsest}, got {list(x.shape[2:])}")
    x, y = x.double(), y.double()
    result = torch.ones(len(x), dtype=torch.float64, device=x.device)
    for k, weight in enumerate(WEIGHTS):
        similarity, contrast = _ssim(x, y, data_range)  # [N]
        term = similarity if k == len(WEIGHTS) - 1 else contrast
        result = result * term.clamp_min(0).pow(weight)
        if k < len(WEIGHTS) - 1:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)  # [N, C, H / 2, W / 2]
    return result


def pairwise_ms_ssim(images: Tensor) -> Tensor:
    """MS-SSIM of the pairs (0, 1), (2, 3), ...

    Args:
        images: uint8 [N, C, H, W], N even.

    Returns:
        float64 [N / 2].

    Raises:
        ValueError: N is odd.
    """
    if len(images) % 2:
        raise ValueError(f"ms_ssim: expected an even number of images, got {len(images)}")
    return ms_ssim(images[0::2], images[1::2])


def _ssim(x: Tensor, y: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """SSIM and its contrast term, averaged over the image: two [N]."""
    window = min(FILTER_SIZE, *x.shape[2:])
    taps = _gaussian(window, FILTER_SIGMA * window / FILTER_SIZE).to(x.device)
    maps = torch.stack([x, y, x * x, y * y, x * y])  # [5, N, C, H, W]
    maps = _blur(maps.flatten(0, 2)[:, None], taps).unflatten(0, maps.shape[:3])[:, :, :, 0]  # [5, N, C, H', W']
    mean_x, mean_y, xx, yy, xy = maps
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    var_x, var_y, cov = xx - mean_x.square(), yy - mean_y.square(), xy - mean_x * mean_y
    contrast = (2 * cov + c2) / (var_x + var_y + c2)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    return (luminance * contrast).mean((1, 2, 3)), contrast.mean((1, 2, 3))


def _gaussian(size: int, sigma: float) -> Tensor:
    """Taps that sum to 1: float64 [size]."""
    offset = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    taps = (-0.5 * (offset / sigma).square()).exp()
    return taps / taps.sum()


def _blur(x: Tensor, taps: Tensor) -> Tensor:
    """Filters x [N, 1, H, W] along both axes, inside the image only."""
    x = F.conv2d(x, taps[None, None, :, None])
    return F.conv2d(x, taps[None, None, None, :])
