"""DiffAugment against a plain transcription of its transforms."""

import pytest
import torch
from torch import Tensor

from gankern.nn import DiffAugment, diff_augment


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_color_is_brightness_then_saturation_then_contrast(channels: int) -> None:
    x, u = images(5, channels, 6, 7), torch.rand(3, 5, dtype=torch.float64)
    y = diff_augment._color(x, u)
    for image, (b, s, c), found in zip(x, u.T, y, strict=True):
        image = image + (b - 0.5)
        grey = image.mean(0, keepdim=True)
        image = (image - grey) * (2 * s) + grey
        image = (image - image.mean()) * (c + 0.5) + image.mean()
        torch.testing.assert_close(found, image)


def test_translation_is_by_every_whole_number_of_pixels_up_to_an_eighth() -> None:
    x = torch.zeros(3000, 1, 16, 24)
    x[:, :, 8, 12] = 1
    y = DiffAugment("translation")(x)
    assert (y.sum((1, 2, 3)) == 1).all()
    places = y.flatten(1).argmax(1)
    moves = {(int(place) // 24 - 8, int(place) % 24 - 12) for place in places}
    assert moves == {(down, right) for down in range(-2, 3) for right in range(-3, 4)}
    counts = torch.bincount(places)
    assert counts[counts > 0].max() < 3000 / 35 * 1.5


@pytest.mark.parametrize("size", [(8, 12), (7, 5), (16, 16)])
def test_cutout_is_a_square_of_half_the_size_anywhere(size: tuple[int, int]) -> None:
    h, w = size
    y = DiffAugment("cutout")(torch.ones(2000, 1, h, w))[:, 0]
    holes = y == 0
    rows, columns = holes.any(2), holes.any(1)
    assert torch.equal(holes, rows[:, :, None] & columns[:, None])
    for marked, count in ((rows, h), (columns, w)):
        side = int(count / 2 + 0.5)
        starts = torch.where(marked[:, 0], marked.sum(1) - side, marked.double().argmax(1))
        expected = range(-(side // 2), count + 1 - side % 2 - side // 2)
        visible = [start for start in expected if start + side > 0 and start < count]
        assert {int(start) for start in starts[marked.any(1)]} == set(visible)
        assert marked.sum(1).max() == side


def test_the_policy_is_what_happens_in_its_order() -> None:
    x = images(2, 3, 16, 16)
    torch.manual_seed(0)
    parts = DiffAugment("cutout")(DiffAugment("translation")(DiffAugment("color")(x)))
    torch.manual_seed(0)
    assert torch.equal(DiffAugment()(x), parts)
    assert torch.equal(DiffAugment("")(x), x)
    with pytest.raises(ValueError, match=r"policy must be of color, translation, cutout, .* got 'colour'"):
        DiffAugment("colour")


@pytest.mark.parametrize("policy", ["color", "translation", "cutout", "color,translation,cutout"])
def test_it_can_be_differentiated_twice(policy: str) -> None:
    def transform(x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return DiffAugment(policy)(x)

    x = images(1, 3, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(transform, x)
    assert torch.autograd.gradgradcheck(transform, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_type_and_layout_stay(dtype: torch.dtype) -> None:
    x = images(2, 3, 8, 8).to(dtype).contiguous(memory_format=torch.channels_last)
    torch.manual_seed(0)
    y = DiffAugment()(x)
    torch.manual_seed(0)
    exact = DiffAugment()(x.float())
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y.float(), exact, rtol=0, atol=4 * torch.finfo(dtype).eps * float(exact.abs().max()))
