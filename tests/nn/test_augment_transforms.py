"""Each transform of augmentation against a plain transcription of its definition, image by image in float64."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gankern.nn import augment_transforms as transforms
from gankern.ops.upfirdn2d import setup_filter

SIZES = [(16, 16), (9, 14), (4, 4), (2, 3)]
FILTER = setup_filter(transforms.SYM6)
NAMES = ("flip", "turns", "shift_x", "shift_y", "log2_scale", "before", "log2_aniso", "after", "move_x", "move_y")


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def inverse_affine(n: int = 1, **values: Tensor) -> Tensor:
    """What is not given changes nothing."""
    v = {name: values.get(name, torch.zeros(n, dtype=torch.float64)) for name in NAMES}
    shift, move = (v["shift_x"], v["shift_y"]), (v["move_x"], v["move_y"])
    return transforms.inverse_affine(
        v["flip"], v["turns"], shift, v["log2_scale"], v["before"], v["log2_aniso"], v["after"], move
    )


def translation(x: Tensor, y: Tensor) -> Tensor:
    return double(1, 0, float(x), 0, 1, float(y), 0, 0, 1).reshape(3, 3)


def scaling(x: float, y: float) -> Tensor:
    return torch.diag(double(x, y, 1))


def rotation(angle: Tensor) -> Tensor:
    cos, sin = math.cos(angle), math.sin(angle)
    return double(cos, -sin, 0, sin, cos, 0, 0, 0, 1).reshape(3, 3)


def random_maps(n: int) -> dict[str, Tensor]:
    values = {name: torch.randn(n, dtype=torch.float64) * 0.7 for name in NAMES}
    values["flip"] = torch.randint(2, [n]).double()
    values["turns"] = torch.randint(4, [n]).double()
    return values | {name: (values[name] * 4).round() for name in ("shift_x", "shift_y")}


def test_the_map_is_the_inverse_of_the_published_product_of_matrices() -> None:
    values = random_maps(20)
    found = inverse_affine(20, **values)
    for i in range(20):
        v = {name: value[i] for name, value in values.items()}
        forward = translation(v["move_x"], v["move_y"])
        forward = forward @ rotation(v["after"])
        forward = forward @ scaling(2 ** v["log2_aniso"], 2 ** -v["log2_aniso"])
        forward = forward @ rotation(v["before"])
        forward = forward @ scaling(2 ** v["log2_scale"], 2 ** v["log2_scale"])
        forward = forward @ translation(v["shift_x"], v["shift_y"])
        forward = forward @ rotation(v["turns"] * math.pi / 2)
        forward = forward @ scaling(1 - 2 * v["flip"], 1)
        torch.testing.assert_close(found[i], forward.inverse()[:2])


def reflected(index: Tensor, size: int) -> Tensor:
    """The pixel that an endless reflection shows at an index: 2 1 0 1 2 3 2 1 0 1 ... for 4 pixels."""
    index = index % (2 * size - 2)
    return torch.where(index < size, index, 2 * size - 2 - index)


def plain_warp(image: Tensor, inverse: Tensor) -> Tensor:
    """[C, H, W]: a wide reflected surrounding, zero insertion, filter, one bilinear look-up per sample, filter."""
    _, h, w = image.shape
    taps = FILTER.double()
    far = 150  # pixels of the surrounding
    rows, columns = (reflected(torch.arange(-far, size + far), size) for size in (h, w))
    wide = image[:, rows][:, :, columns]
    spread = wide.new_zeros([len(image), 2 * wide.shape[1], 2 * wide.shape[2]])
    spread[:, ::2, ::2] = wide
    for weight in (taps.flip(0)[None, None, None], taps.flip(0)[None, None, :, None]):
        spread = F.conv2d(spread[:, None], 2 * weight, padding=[size - 1 for size in weight.shape[2:]])[:, 0]
    # Of sample m of this the centre is at m - 5, in halves of a pixel of the surrounding.
    out = image.new_zeros([len(image), 2 * h + 10, 2 * w + 10])
    for i in range(2 * h + 10):
        for j in range(2 * w + 10):
            to = double((j - 5) / 2 - (w - 1) / 2, (i - 5) / 2 - (h - 1) / 2, 1)
            x, y = (inverse @ to).tolist()
            x, y = 2 * (x + (w - 1) / 2 + far) + 5, 2 * (y + (h - 1) / 2 + far) + 5
            left, top = math.floor(x), math.floor(y)
            square = spread[:, top : top + 2, left : left + 2]
            square = square[:, 0] * (top + 1 - y) + square[:, 1] * (y - top)
            out[:, i, j] = square[:, 0] * (left + 1 - x) + square[:, 1] * (x - left)
    for weight in (taps[None, None, None], taps[None, None, :, None]):
        out = F.conv2d(out[:, None], weight)[:, 0]
    return out[:, ::2, ::2]


@pytest.mark.parametrize("size", SIZES)
def test_a_warp_is_filtered_sampled_and_filtered_again(size: tuple[int, int]) -> None:
    x = torch.randn(3, 2, *size, dtype=torch.float64)
    inverse = inverse_affine(3, **random_maps(3))
    y = transforms.warp(x, inverse, FILTER)
    for image, one, found in zip(x, inverse, y, strict=True):
        torch.testing.assert_close(found, plain_warp(image, one), rtol=1e-6, atol=1e-6)  # the filter is float32


@pytest.mark.parametrize("size", SIZES)
def test_a_shift_by_whole_pixels_rolls_the_reflection(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    y = transforms.warp(x, inverse_affine(2, shift_x=double(3, -11), shift_y=double(-5, 1)), FILTER)
    for image, found, right, down in zip(x, y, (3, -11), (-5, 1), strict=True):
        rows = reflected(torch.arange(size[0]) - down, size[0])
        columns = reflected(torch.arange(size[1]) - right, size[1])
        torch.testing.assert_close(found, image[:, rows][:, :, columns], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_no_change_is_no_change(dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 64, 48, dtype=dtype)
    y = transforms.warp(x, inverse_affine(2).to(dtype), FILTER)
    torch.testing.assert_close(y, x, rtol=0, atol=1e-6 if dtype == torch.float64 else 1e-4)


def smooth(offset: Tensor, size: int = 32) -> Tensor:
    """An image [1, 1, size, size] of low frequencies, unlike its flips and turns, read at an offset in pixels."""
    pixels = torch.arange(size, dtype=torch.float64)
    x, y = ((pixels + by) * math.pi / (size - 1) for by in offset)  # whole waves in a period of the reflection
    y = y[:, None]
    return (x.cos() + 0.5 * (2 * y).cos() + 0.25 * y.cos() + 0.3 * x.cos() * (2 * y).cos())[None, None]


@pytest.mark.parametrize(
    ("values", "definition"),
    [
        ({"flip": 1}, lambda x: x.flip(3)),
        ({"turns": 1}, lambda x: torch.rot90(x, -1, (2, 3))),
        ({"turns": 2}, lambda x: torch.rot90(x, 2, (2, 3))),
        ({"turns": 3}, lambda x: torch.rot90(x, 1, (2, 3))),
        ({"turns": 1, "flip": 1}, lambda x: torch.rot90(x.flip(3), -1, (2, 3))),
        ({"before": math.pi / 2}, lambda x: torch.rot90(x, -1, (2, 3))),
        ({"after": -math.pi}, lambda x: torch.rot90(x, 2, (2, 3))),
    ],
    ids=["flip", "quarter", "half", "three-quarters", "flip-and-quarter", "rotated-before", "rotated-after"],
)
def test_flips_and_turns_of_smooth_images(values: dict[str, float], definition: Callable[[Tensor], Tensor]) -> None:
    """The filter is not symmetric: flips move an image by twice what its centre of mass is off its middle tap."""
    inverse = inverse_affine(**{name: double(value) for name, value in values.items()})
    off = (FILTER.double() @ torch.arange(12).double() - 5) / 2  # in pixels
    assert off == pytest.approx(0.049, abs=0.001)
    x, centred = smooth(double(0, 0)), smooth((inverse[0, :, :2] - torch.eye(2)) @ off.expand(2))
    y = transforms.warp(x, inverse, FILTER)
    assert (x - definition(x)).abs().max() > 0.5
    torch.testing.assert_close(y, definition(centred), rtol=0, atol=1e-3)


def test_scale_and_stretch_enlarge_about_the_centre() -> None:
    x = torch.zeros(1, 1, 33, 33, dtype=torch.float64)
    x[..., 12:21, 14:19] = 1  # 9 high, 5 wide
    middle = slice(6, 27)  # below and above it a squeezed image goes on with its reflection
    cases = (({"log2_scale": 1}, slice(None), 18, 10), ({"log2_aniso": 1}, middle, 4.5, 10))
    for values, rows, height, width in cases:
        y = transforms.warp(x, inverse_affine(**{name: double(v) for name, v in values.items()}), FILTER)[0, 0]
        assert y[16].sum() == pytest.approx(width, abs=0.2)
        assert y[rows, 16].sum() == pytest.approx(height, abs=0.2)


@pytest.mark.parametrize("padding", [(1, 2, 3, 0), (5, 0, 9, 14), (0, 0, 0, 0)])
def test_reflection_goes_on_without_end(padding: tuple[int, int, int, int]) -> None:
    x = torch.randn(1, 2, 3, 4)
    left, right, top, bottom = padding
    rows, columns = reflected(torch.arange(-top, 3 + bottom), 3), reflected(torch.arange(-left, 4 + right), 4)
    assert torch.equal(transforms.reflect(x, padding), x[:, :, rows][..., columns])


def test_there_is_no_reflecting_one_pixel() -> None:
    with pytest.raises(ValueError, match=r"H >= 2 and W >= 2.* got \[1, 2, 1, 4\]"):
        transforms.reflect(torch.zeros(1, 2, 1, 4), (1, 1, 1, 1))


def test_the_warp_filter_is_orthogonal_with_six_vanishing_moments() -> None:
    taps = double(*transforms.SYM6)
    for shift in range(6):
        product = (taps[2 * shift :] * taps[: 12 - 2 * shift]).sum()
        assert product == pytest.approx(float(shift == 0), abs=1e-11)
    high = taps * double(*[(-1.0) ** k for k in range(12)])
    for power in range(6):
        assert (high * (torch.arange(12) - 5.5) ** power).sum() == pytest.approx(0, abs=1e-8)


def householder(v: Tensor, flip: Tensor) -> Tensor:
    return torch.eye(4, dtype=torch.float64) - 2 * flip * v.outer(v)


def turn_about(v: Tensor, angle: Tensor) -> Tensor:
    """Rodrigues' formula, as a matrix 4 x 4."""
    x, y, z, _ = v.tolist()
    cross = double(0, -z, y, 0, z, 0, -x, 0, -y, x, 0, 0, 0, 0, 0, 0).reshape(4, 4)
    return torch.eye(4, dtype=torch.float64) + cross * math.sin(angle) + cross @ cross * (1 - math.cos(angle))


def test_colours_are_the_published_product_of_matrices() -> None:
    n = 10
    x = torch.randn(n, 3, 5, 6, dtype=torch.float64)
    b, c, hue, s = torch.randn(4, n, dtype=torch.float64).exp()
    flip = torch.randint(2, [n]).double()
    found = transforms.recolour(x, b, c, flip, hue, s)
    grey = transforms.recolour(x[:, :1], b, c, flip, hue, s)
    v = double(1, 1, 1, 0) / math.sqrt(3)
    for i in range(n):
        matrix = torch.eye(4, dtype=torch.float64)
        matrix[:3, 3] = b[i]
        matrix = torch.diag(double(c[i], c[i], c[i], 1)) @ matrix
        matrix = householder(v, flip[i]) @ matrix
        matrix = turn_about(v, hue[i]) @ matrix
        along = v.outer(v)
        matrix = (along + torch.diag(double(0, 0, 0, 1)) + s[i] * (torch.diag(double(1, 1, 1, 0)) - along)) @ matrix
        expected = torch.einsum("ij,jhw->ihw", matrix[:3, :3], x[i]) + matrix[:3, 3, None, None]
        torch.testing.assert_close(found[i], expected)
        of_three = torch.einsum("ij,jhw->ihw", matrix[:3, :3], x[i, :1].expand(3, -1, -1)) + matrix[:3, 3, None, None]
        torch.testing.assert_close(grey[i, 0], of_three.mean(0))


def test_colours_need_one_or_three_channels() -> None:
    with pytest.raises(ValueError, match=r"1 or 3 channels.* got \[2, 4, 8, 8\]"):
        transforms.recolour(torch.zeros(2, 4, 8, 8), *torch.zeros(5, 2))


def test_the_bands_are_octaves_that_sum_to_the_identity() -> None:
    bank = transforms.filter_bank()
    assert bank.shape == (4, 43)
    torch.testing.assert_close(bank, bank.flip(1))
    torch.testing.assert_close(bank.sum(0), F.one_hot(torch.tensor(21), 43).double())
    frequency = torch.linspace(0, math.pi, 200, dtype=torch.float64)
    response = bank @ (torch.arange(-21, 22)[:, None] * frequency).cos()  # [4, 200]

    def low(w: Tensor) -> Tensor:
        """|L|^2 of the wavelet of two vanishing moments: Daubechies, 1992, section 6.1."""
        return (w / 2).cos() ** 4 * (1 + 2 * (w / 2).sin() ** 2)

    first, second, third = low(frequency), low(2 * frequency), low(4 * frequency)
    expected = [first * second * third, first * second * (1 - third), first * (1 - second), 1 - first]
    torch.testing.assert_close(response, torch.stack(expected))


def test_each_change_of_a_band_restores_the_power() -> None:
    log2_gains = torch.randn(6, 4, dtype=torch.float64)
    power = double(10, 1, 1, 1) / 13
    found = transforms.band_gains(log2_gains, power)
    for gains, one in zip(found, log2_gains, strict=True):
        expected = torch.ones(4, dtype=torch.float64)
        for band in range(4):
            t = torch.ones(4, dtype=torch.float64)
            t[band] = 2 ** one[band]
            expected = expected * t / (power * t.square()).sum().sqrt()
        torch.testing.assert_close(gains, expected)


@pytest.mark.parametrize("size", SIZES)
def test_each_image_is_filtered_by_its_own_taps(size: tuple[int, int]) -> None:
    h, w = size
    x, half = torch.randn(2, 3, h, w, dtype=torch.float64), torch.randn(2, 6, dtype=torch.float64)
    taps = torch.cat([half, half[:, :-1].flip(1)], 1)  # [2, 11]
    found = transforms.filter_bands(x, taps)
    for image, one, y in zip(x, taps, found, strict=True):
        expected = torch.zeros_like(image)
        for i, a in enumerate(one):
            for j, b in enumerate(one):
                rows, columns = reflected(torch.arange(h) + i - 5, h), reflected(torch.arange(w) + j - 5, w)
                expected += a * b * image[:, rows][:, :, columns]
        torch.testing.assert_close(y, expected)


def test_a_hole_is_a_rectangle_of_its_size_about_its_centre() -> None:
    x = torch.ones(3, 2, 20, 10)
    centres = torch.tensor([0.45, 0.02, 0.3]), torch.tensor([0.5, 1.0, 0.3])
    y = transforms.cut_out(x, centres, torch.tensor([0.5, 0.5, 0]))
    expected = x.clone()
    expected[0, :, 5:15, 2:7] = 0
    expected[1, :, 15:, :3] = 0  # over two edges
    assert torch.equal(y, expected)


def test_shifted_images_leave_zeros_behind() -> None:
    x = torch.randn(3, 2, 5, 7)
    y = transforms.shift_by_pixels(x, torch.tensor([2, -3, 9]), torch.tensor([-1, 0, 1]))
    assert torch.equal(y[0, :, :4, 2:], x[0, :, 1:, :5])
    assert torch.equal(y[1, :, :, :4], x[1, :, :, 3:])
    assert torch.equal(y[0].abs().sum((0, 1)) == 0, torch.arange(7) < 2)
    assert torch.equal(y[0].abs().sum((0, 2)) == 0, torch.arange(5) == 4)
    assert not y[1, :, :, 4:].any()
    assert not y[2].any()
