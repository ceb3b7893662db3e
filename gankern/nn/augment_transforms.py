"""The transforms of augmentation, each for a batch of images with parameters of their own; no random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from gankern import checks
from gankern.ops.conv2d import conv2d
from gankern.ops.grid_sample import grid_sample
from gankern.ops.upfirdn2d import upfirdn2d

# The filter through which images are warped: the low pass of the wavelet sym6, orthogonal to its shifts by two.
# Source: Daubechies, "Ten Lectures on Wavelets", 1992, table 6.3 (the least asymmetric filter of N = 6).
SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)


def inverse_affine(
    flip: torch.Tensor,
    turns: torch.Tensor,
    shift: tuple[torch.Tensor, torch.Tensor],
    log2_scale: torch.Tensor,
    before: torch.Tensor,
    log2_aniso: torch.Tensor,
    after: torch.Tensor,
    move: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Where the pixels of a transformed image come from, as an affine map of positions about the image's centre.

    An image is flipped along x, turned by quarters, shifted, scaled by s = 2^log2_scale, turned by `before`, stretched
    by a = 2^log2_aniso along x and 1 / a along y, turned by `after`, moved. This is the inverse of all that. Since
    R(u) diag(1, -1) R(v) = R(u - v) diag(1, -1) for rotations R, the product of its linear parts is
    F (cosh(t) R(-turns - before - after) - sinh(t) R(-turns - before + after) diag(1, -1)) / s, with t = log(a).

    Args:
        flip: 1 where an image is flipped, else 0, [N], as all arguments.
        turns: Quarter turns.
        shift: In pixels along x and y.
        log2_scale: Logarithm of the scale to base 2.
        before: Angle in radians.
        log2_aniso: Logarithm of the stretch along x to base 2.
        after: Angle in radians.
        move: In pixels along x and y.

    Returns:
        Affine maps [N, 2, 3], rows x and y, in pixels.

    Source: Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020, appendix B.
    """
    quarter = turns * (math.pi / 2)  # [N]
    first = quarter + before  # [N]
    angles = torch.stack([quarter, first + after, first - after])  # [3, N]
    cos, sin = angles.cos(), angles.sin()  # [3, N]
    wide = torch.exp2(log2_aniso - log2_scale)  # [N], exp(t) / s
    narrow = torch.exp2(-log2_aniso - log2_scale)  # [N], exp(-t) / s
    weights = torch.stack([wide + narrow, narrow - wide]) / 2  # [2, N]
    cos_of_sum, cos_of_rest = (weights * cos[1:]).unbind()  # [N]
    sin_of_sum, sin_of_rest = (weights * sin[1:]).unbind()  # [N]
    sign = 1 - 2 * flip  # [N]
    row_x = torch.stack([cos_of_sum + cos_of_rest, sin_of_sum - sin_of_rest]) * sign  # [2, N]
    row_y = torch.stack([-sin_of_sum - sin_of_rest, cos_of_sum - cos_of_rest])  # [2, N]
    shift_x = torch.addcmul(cos[0] * shift[0], sin[0], shift[1]) * sign  # [N]
    shift_y = torch.addcmul(cos[0] * shift[1], sin[0], shift[0], value=-1)  # [N]
    offset_x = -torch.addcmul(torch.addcmul(shift_x, row_x[0], move[0]), row_x[1], move[1])  # [N]
    offset_y = -torch.addcmul(torch.addcmul(shift_y, row_y[0], move[0]), row_y[1], move[1])  # [N]
    return torch.stack([*row_x, offset_x, *row_y, offset_y], 1).unflatten(1, (2, 3))  # [N, 2, 3]


def warp(x: torch.Tensor, inverse: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
    """Moves the pixels of images by affine maps, between an orthogonal filter's up- and downsampling by two.

    Images go on by reflection, without end. A reflected image repeats itself after 2 (size - 1) pixels, so one period
    is upsampled, and positions are taken modulo that: nothing depends on how far the maps reach.

    Args:
        x: Images [N, C, H, W], H and W at least 2.
        inverse: Maps [N, 2, 3] of `inverse_affine`, float32 or of the dtype of x.
        f: Orthogonal low pass [12], float32.

    Returns:
        Images [N, C, H, W].

    Source: Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020, appendix B.
    """
    height, width = x.shape[2:]
    (before_x, after_x, *pad_x), (before_y, after_y, *pad_y) = _one_period(width), _one_period(height)
    x = reflect(x, (before_x, after_x, before_y, after_y))
    x = upfirdn2d(x, f, up=2, padding=[*pad_x, *pad_y], gain=4)  # [N, C, 4 (H - 1) + 1, 4 (W - 1) + 1]
    x = grid_sample(x, _sample_points(inverse, height, width), align_corners=True)  # [N, C, 2 H + 10, 2 W + 10]
    return upfirdn2d(x, f, down=2, flip_filter=True)  # [N, C, H, W]


def _one_period(size: int) -> tuple[int, int, int, int]:
    """How an axis is padded so that upsampling gives it from -(size - 1) to 3 (size - 1), in halves of a pixel.

    That is the image, and half a mirror image on either side of it: reflection before and after, and the zeros that
    `upfirdn2d` still has to add or remove. The filter is centred at its tap 5, about its centre of mass.
    """
    before, after = (size + 5) // 2, (size + 4) // 2
    return before, after, size + 5 - 2 * before, size + 3 - 2 * after


def _sample_points(inverse: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The points of the upsampled period [N, 2 H + 10, 2 W + 10, 2] that the downsampling filter reads."""
    x = _half_pixels(width, inverse)  # [2 W + 10]
    y = _half_pixels(height, inverse)  # [2 H + 10]
    periods = torch.stack([inverse[:, 0] / (width - 1), inverse[:, 1] / (height - 1)], 2)  # [N, 3, 2]
    along_x, along_y, offset = periods[:, None].unbind(2)  # [N, 1, 2]
    rows = torch.addcmul(offset + 1, y[:, None], along_y)  # [N, 2 H + 10, 2]
    points = torch.addcmul(rows[:, :, None], x[:, None], along_x[:, None])  # [N, 2 H + 10, 2 W + 10, 2]
    return torch.remainder(points, 2) - 1


def _half_pixels(size: int, like: torch.Tensor) -> torch.Tensor:
    """Positions about the centre, half a pixel apart: five before the first pixel, six after the last."""
    return torch.linspace(-(size + 4) / 2, (size + 5) / 2, 2 * size + 10, dtype=like.dtype, device=like.device)


def reflect(x: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
    """Continues images by reflection about their outermost pixels, [left, right, top, bottom] pixels, any number.

    Raises:
        ValueError: An image has a side of one pixel, which there is no reflecting.
    """
    if min(x.shape[2:]) < 2:
        raise checks.bad_value("AugmentPipe", "x", "have H >= 2 and W >= 2, to be reflected", list(x.shape))
    height, width = x.shape[2:]
    furthest = (width - 1, width - 1, height - 1, height - 1)  # in one go; a border there is a centre of reflection too
    while any(padding):
        step = [min(pixels, limit) for pixels, limit in zip(padding, furthest, strict=True)]
        x = F.pad(x, step, mode="reflect")
        padding = [pixels - done for pixels, done in zip(padding, step, strict=True)]
    return x


def recolour(
    x: torch.Tensor,
    brightness: torch.Tensor,
    contrast: torch.Tensor,
    flip: torch.Tensor,
    hue: torch.Tensor,
    saturation: torch.Tensor,
) -> torch.Tensor:
    """Changes brightness, contrast, luma, hue and saturation, in this order, as one affine map of the channels.

    All act along the grey axis v = (1, 1, 1) / sqrt(3) or around it, so that their product is
    c (x + b) (1 - 2 flip) along v, and the rest of x turned by the hue and scaled by c s.

    Args:
        x: Images [N, C, H, W] of C = 1 or 3 channels; a grey image counts as one of three equal channels.
        brightness: Added, b [N].
        contrast: Factor c [N].
        flip: 1 where the luma is flipped, else 0, [N].
        hue: Angle in radians [N].
        saturation: Factor s [N].

    Returns:
        Images [N, C, H, W].

    Raises:
        ValueError: C is neither 1 nor 3.

    Source: Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020, appendix B.
    """
    if x.shape[1] not in (1, 3):
        raise checks.bad_value("AugmentPipe", "x", "have 1 or 3 channels, for its colours to change", list(x.shape))
    grey = contrast * (1 - 2 * flip)  # [N]
    offset = (grey * brightness).to(x.dtype)  # [N]
    if x.shape[1] == 1:
        return torch.addcmul(offset[:, None, None, None], x, grey.to(x.dtype)[:, None, None, None])
    chroma = contrast * saturation  # [N]
    along, across = chroma * hue.cos() / 3, chroma * hue.sin() / math.sqrt(3)  # [N]
    # The rotation's matrix has rows (d, l, r), (r, d, l), (l, r, d): the grey part is the mean of a row.
    d = grey / 3 + 2 * along  # [N]
    left = grey / 3 - along - across  # [N]
    right = grey / 3 - along + across  # [N]
    matrix = torch.stack([d, left, right, right, d, left, left, right, d], 1).unflatten(1, (3, 3))  # [N, 3, 3]
    y = torch.baddbmm(offset[:, None, None], matrix.to(x.dtype), x.flatten(2))  # [N, 3, H W]
    return y.view_as(x)


def band_gains(log2_gains: torch.Tensor, expected_power: torch.Tensor) -> torch.Tensor:
    """Gains of frequency bands, each 2^log2_gains and the power of an average image restored after each.

    g_j = t_j / sqrt(prod_i (1 + l_i (t_i^2 - 1))), t_i the gain of band i before, l_i its part of the power.

    Args:
        log2_gains: [N, bands].
        expected_power: l [bands], of sum 1.

    Returns:
        Gains [N, bands].

    Source: Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020, appendix B.
    """
    gains = torch.exp2(log2_gains)  # [N, bands]
    power = 1 + expected_power * (gains.square() - 1)  # [N, bands], after each change by itself
    return gains * power.prod(1, keepdim=True).rsqrt()


def filter_bands(x: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """Convolves each image [N, C, H, W] along x and along y with its own taps [N, T]; reflection outside.

    The taps are symmetric and T is odd.
    """
    n, c, height, width = x.shape
    around = taps.shape[1] // 2
    weight = taps.to(x.dtype).repeat_interleave(c, 0)[:, None, None]  # [N C, 1, 1, T]
    x = reflect(x, (around,) * 4)  # [N, C, H + T - 1, W + T - 1]
    x = x.reshape(1, n * c, *x.shape[2:])  # [1, N C, H + T - 1, W + T - 1]
    x = conv2d(x, weight, groups=n * c)  # [1, N C, H + T - 1, W]
    x = conv2d(x, weight.transpose(2, 3), groups=n * c)  # [1, N C, H, W]
    return x.reshape(n, c, height, width)


def filter_bank() -> torch.Tensor:
    """Four symmetric filters [4, 43] in float64 whose sum is the identity, each passing an octave, the lowest first.

    With L and H the squared magnitudes of the wavelet sym2's low and high pass, L + H = 1, these are
    L(z) L(z^2) L(z^4), L(z) L(z^2) H(z^4), L(z) H(z^2) and H(z).

    Source: Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020, appendix B; the wavelet:
        Daubechies, "Ten Lectures on Wavelets", 1992, section 6.4.
    """
    root = math.sqrt(3)
    sym2 = torch.tensor([1 + root, 3 + root, 3 - root, 1 - root], dtype=torch.float64) / 8  # of sum 1 [4]
    low = F.conv1d(F.pad(sym2, (3, 3))[None, None], sym2[None, None])[0, 0]  # L [7]
    high = -low  # [7]
    high[3] += 1
    bank = [torch.ones(1, dtype=torch.float64)]  # bands of the octaves so far
    for _ in range(3):
        spread = [torch.stack([band, torch.zeros_like(band)], 1).flatten()[:-1] for band in bank]  # z -> z^2
        filtered = [F.conv1d(F.pad(band, (6, 6))[None, None], low[None, None])[0, 0] for band in spread]
        bank = [*filtered, high]
    return torch.stack([F.pad(band, ((43 - len(band)) // 2,) * 2) for band in bank])


def cut_out(x: torch.Tensor, centre: tuple[torch.Tensor, torch.Tensor], size: torch.Tensor) -> torch.Tensor:
    """Makes a rectangle zero, that may reach over the edges.

    Args:
        x: Images [N, C, H, W].
        centre: Along x and y, in [0, 1], each [N].
        size: Sides of the rectangle as a part of the image's, [N].

    Returns:
        Images [N, C, H, W].

    Source: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017.
    """
    outside = [
        (_pixel_centres(count, at) - at[:, None]).abs() >= size[:, None] / 2  # [N, count]
        for count, at in zip((x.shape[3], x.shape[2]), centre, strict=True)
    ]
    kept = outside[0][:, None, None, :] | outside[1][:, None, :, None]  # [N, 1, H, W]
    return x * kept


def _pixel_centres(count: int, like: torch.Tensor) -> torch.Tensor:
    """Of an axis from 0 to 1."""
    return torch.linspace(0.5 / count, 1 - 0.5 / count, count, dtype=like.dtype, device=like.device)


def shift_by_pixels(x: torch.Tensor, right: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Moves images by whole pixels, zeros coming in. x [N, C, H, W]; right and down int64 [N]."""
    n, c, height, width = x.shape
    column = torch.arange(width, device=x.device) - right[:, None]  # [N, W]
    row = torch.arange(height, device=x.device) - down[:, None]  # [N, H]
    # Each pixel is read once, also those that then give way to zeros: the gradient's sums have one term.
    pixel = (row % height * width)[:, :, None] + (column % width)[:, None]  # [N, H, W]
    inside = ((row >= 0) & (row < height))[:, :, None] & ((column >= 0) & (column < width))[:, None]  # [N, H, W]
    y = x.flatten(2).gather(2, pixel.flatten(1)[:, None].expand(n, c, height * width))  # [N, C, H W]
    return y.view_as(x) * inside[:, None]
