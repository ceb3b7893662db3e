"""Embeddings whose squared distance says how alike images are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from small_checkpoints import OPTIONS, checkpoint
from torch import Tensor, nn

from gankern.models.perceptual import of_discriminator, of_vgg, pyramid


def distance(embed, a: Tensor, b: Tensor) -> float:
    return float((embed(a) - embed(b)).detach().square().sum())


def smooth(n: int = 1, channels: int = 1) -> Tensor:
    return F.interpolate(torch.randn(n, channels, 5, 5), size=32, mode="bicubic").tanh()


def test_the_pyramid_keeps_the_image_and_weighs_every_scale_alike() -> None:
    flat = torch.full([1, 3, 32, 32], 0.5)
    assert distance(pyramid, flat, torch.zeros_like(flat)) == pytest.approx(0.25)  # the last level alone
    x = torch.randn(2, 1, 32, 32)
    assert pyramid(x).shape == (2, 32**2 + 16**2 + 8**2 + 4**2 + 2**2)
    fine = torch.ones(1, 1, 32, 32)
    fine[..., ::2] = -1  # gone in the mean of two pixels
    assert distance(pyramid, fine, 0 * fine) == pytest.approx(1)


@pytest.mark.parametrize("size", [(32, 32), (12, 20), (6, 6), (1, 1)])
def test_the_pyramid_takes_any_size(size: tuple[int, int]) -> None:
    assert pyramid(torch.randn(1, 1, *size)).isfinite().all()


@pytest.mark.parametrize("family", OPTIONS)
def test_a_discriminator_tells_images_apart_the_more_the_less_alike_they_are(family: str) -> None:
    source = checkpoint(family)
    embed = of_discriminator(source.D, torch.eye(3)[:1])
    hooks = [len(module._forward_hooks) for module in source.D.modules()]
    x, other = smooth(), smooth()
    near = x.lerp(other, 0.05)
    assert distance(embed, x, x.clone()) == 0
    assert 0 < distance(embed, x, near) < 0.3 * distance(embed, x, other)
    assert embed(torch.cat([x, other])).shape == (2, embed(x).shape[1])
    (gradient,) = torch.autograd.grad(embed(near.requires_grad_(True)).square().sum(), near)
    assert gradient.isfinite().all()
    assert [len(module._forward_hooks) for module in source.D.modules()] == hooks


def test_a_discriminators_features_have_unit_length_at_every_pixel_on_average() -> None:
    embed = of_discriminator(checkpoint("biggan").D, torch.eye(3)[:1])
    assert embed(smooth()).square().sum().item() == pytest.approx(1, rel=1e-3)


class StandIn(nn.Module):
    """Takes what NVIDIA's vgg16.pt takes; TorchScript reads the defaults and the types."""

    def forward(self, images: Tensor, resize_images: bool = True, return_lpips: bool = False) -> Tensor:
        if resize_images or not return_lpips or images.shape[1] != 3:
            raise ValueError("wrong keywords or channels")
        return images / 255


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_vgg_sees_three_channels_of_at_most_256_pixels_from_0_to_255(tmp_path: Path) -> None:
    torch.jit.script(StandIn()).save(tmp_path / "vgg16.pt")
    embed = of_vgg(tmp_path / "vgg16.pt", torch.device("cpu"))
    assert embed(torch.full([2, 1, 8, 8], -1.0)).abs().max() == 0
    assert embed(torch.ones([2, 1, 8, 8])).tolist() == torch.ones(2, 192).tolist()
    assert embed(torch.zeros([1, 3, 512, 512])).shape == (1, 3 * 256 * 256)
    x = torch.zeros([1, 1, 8, 8], requires_grad=True)
    (gradient,) = torch.autograd.grad(embed(x).sum(), x)
    assert (gradient == 1.5).all()


def test_a_missing_vgg_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*gone.pt; needs vgg16.pt"):
        of_vgg(tmp_path / "gone.pt", torch.device("cpu"))
