"""Projecting finds again what a generator drew."""

from __future__ import annotations

import math

import pytest
import torch
from small_checkpoints import OPTIONS, checkpoint
from torch import Tensor

from gankern.models.perceptual import Embedding, of_discriminator, pyramid
from gankern.models.projection import codes_of, learning_rate, noise_regulariser, project
from gankern.models.trained import Trained


@pytest.mark.parametrize("family", OPTIONS)
def test_an_image_of_the_generators_own_is_found_again(family: str) -> None:
    one = Trained(checkpoint(family).G_ema.requires_grad_(False), family)
    c = one.labels([1], 1)
    buffers = [buffer.clone() for buffer in one.G.buffers()]
    with torch.no_grad():
        target = one.draw(one.codes(one.latents([7]), c, 0.7 if one.has_styles else 1))
    way, found = project(one, pyramid, target, c, num_steps=60)
    assert way.shape == (61, 16)
    assert torch.equal(found, c)
    far = 0.3 if family == "stylegan" else 0.15  # untrained, it has a second minimum at 0.2, where most seeds end
    assert distance(one, pyramid, way[-1], c, target) < far * distance(one, pyramid, way[0], c, target)
    assert all(torch.equal(a, b) for a, b in zip(buffers, one.G.buffers(), strict=True))


def test_it_is_found_by_what_the_discriminator_sees() -> None:
    source = checkpoint("stylegan2")
    one = Trained(source.G_ema.requires_grad_(False), "stylegan2")
    c = one.labels([1], 1)
    embed = of_discriminator(source.D.requires_grad_(False), c)
    with torch.no_grad():
        target = one.draw(one.codes(one.latents([7]), c, 0.7))
    way, _ = project(one, embed, target, c, num_steps=60)
    assert distance(one, embed, way[-1], c, target) < 0.3 * distance(one, embed, way[0], c, target)


def distance(one: Trained, embed: Embedding, x: Tensor, c: Tensor, target: Tensor) -> float:
    with torch.no_grad():
        return float((embed(one.draw(codes_of(one, x[None], c))) - embed(target)).square().sum())


def test_without_a_label_the_class_of_the_nearest_sample_is_taken() -> None:
    one = Trained(checkpoint("progan").G_ema.requires_grad_(False), "progan")
    for k in (0, 2):
        with torch.no_grad():
            target = one.draw(one.codes(one.latents([3]), 2 * one.labels([k], 1)))  # far on the side of the class
        _, c = project(one, pyramid, target, None, num_steps=1)
        assert c.argmax().item() == k


def test_the_start_in_w_is_the_mean() -> None:
    one = Trained(checkpoint("stylegan2", c_dim=0).G_ema.requires_grad_(False), "stylegan2")
    way, _ = project(one, pyramid, torch.zeros(1, 1, 32, 32), torch.zeros(1, 0), num_steps=1)
    with torch.no_grad():
        mean = one.codes(torch.randn(20000, 16), torch.zeros(20000, 0)).layers[:, 0].mean(0)
    torch.testing.assert_close(way[0], mean, atol=0.05, rtol=0)


def test_the_learning_rate_rises_stays_and_falls() -> None:
    assert [learning_rate(t) for t in (0, 0.025, 0.05, 0.4, 0.75)] == pytest.approx([0, 0.05, 0.1, 0.1, 0.1])
    assert learning_rate(0.875) == pytest.approx(0.05)
    assert learning_rate(1) == pytest.approx(0)


def test_the_noise_regulariser_is_small_for_white_noise_and_large_for_an_image() -> None:
    white = torch.randn(64, 64)
    assert noise_regulariser([white]) < 0.1
    stripes = torch.ones(64, 64)
    stripes[32:] = -1
    scales = math.log2(64 / 8) + 1
    assert noise_regulariser([stripes]) > scales  # nearly 2 at every scale, the variance of smooth maps grows
    checks = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 2 - 1.0
    assert noise_regulariser([checks]).item() == pytest.approx(2)  # at its own scale only
    assert noise_regulariser([]).item() == 0
