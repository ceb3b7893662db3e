"""Every family's generator through one interface."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_checkpoints import OPTIONS, checkpoint

from gankern.models.trained import PIXELS_AT_ONCE, Codes, Trained, in_fp32, mix

LAYERS = {"stylegan2": 8, "stylegan": 8, "progan": 1, "biggan": 4, "sagan": 1}


def trained(family: str, **options) -> Trained:
    return Trained(checkpoint(family, **options).G_ema, family)


@pytest.mark.parametrize("family", OPTIONS)
def test_a_seed_and_a_class_give_the_image_that_the_generator_draws_of_them(family: str) -> None:
    one = trained(family)
    assert one.num_layers == LAYERS[family]
    z, c = one.latents([5, 6]), one.labels([2], 2)
    codes = one.codes(z, c)
    assert codes.layers.shape[:2] == (2, LAYERS[family])
    keywords = {"noise_mode": "const"} if one.has_styles else {}
    with torch.no_grad():
        assert torch.equal(one.draw(codes), one.G(z, c, **keywords))


@pytest.mark.parametrize(
    ("family", "options"),
    [("biggan", {"deep": True}), ("biggan", {"hier": False, "shared_dim": 0}), ("sagan", {"modulation": "self"})],
)
def test_one_z_for_all_layers_is_one_part(family: str, options: dict[str, object]) -> None:
    assert trained(family, **options).num_layers == 1


@pytest.mark.parametrize("family", ["stylegan", "progan"])
def test_a_network_that_is_still_growing_is_drawn_at_its_size(family: str) -> None:
    source = checkpoint(family)
    source.G_ema.grow(16, True)
    source.G_ema.alpha.fill_(0.5)
    for G in (source.G_ema, in_fp32(source, source.G_ema)):
        one = Trained(G, family)
        (images,) = one.draw_in_parts(one.codes(one.latents([0, 1]), one.labels(None, 2)))
        assert images.shape == (2, 1, 16, 16)


def test_the_latents_of_a_seed_are_those_of_the_published_tools() -> None:
    expected = np.random.RandomState(85).randn(1, 16)
    torch.testing.assert_close(trained("stylegan2").latents([1, 85])[1:], torch.from_numpy(expected).float())


@pytest.mark.parametrize("family", ["stylegan2", "stylegan"])
def test_styles_are_truncated_towards_their_mean_up_to_the_cutoff(family: str) -> None:
    one = trained(family)
    z, c = one.latents([1]), one.labels(None, 1)
    plain, half = one.codes(z, c).layers, one.codes(z, c, 0.5, cutoff=3).layers
    torch.testing.assert_close(half[:, :3], (plain[:, :3] + one.G.mapping.w_avg) / 2)
    assert torch.equal(half[:, 3:], plain[:, 3:])


@pytest.mark.parametrize("family", ["biggan", "sagan"])
def test_where_there_are_no_styles_the_latents_are_truncated(family: str) -> None:
    one = trained(family)
    z, c = one.latents(range(200)), one.labels(None, 200)
    x = one.codes(z, c, 0.4).layers.flatten(1)
    assert 0.7 < x.abs().max() <= 0.8
    assert x.std() == pytest.approx(0.4 * 0.88, rel=0.05)  # a normal distribution cut at 2 has deviation 0.88
    assert torch.equal(one.codes(z, c).layers.flatten(1), z)


@pytest.mark.parametrize(
    ("family", "psi", "cutoff", "message"),
    [
        ("progan", 0.5, None, "--trunc must be 1 for ProGAN"),
        ("biggan", 0.0, None, "--trunc must be positive for biggan, got 0"),
        ("stylegan2", float("nan"), None, "--trunc must be a finite number, got nan"),
        ("stylegan2", 0.5, 9, "--trunc-cutoff must be from 0 to 8, got 9"),
        ("sagan", 0.5, 2, "--trunc-cutoff must be left out: sagan has no styles, got 2"),
    ],
)
def test_a_truncation_that_does_not_suit_is_refused(family, psi, cutoff, message) -> None:
    one = trained(family)
    with pytest.raises(ValueError, match=message):
        one.codes(one.latents([0]), one.labels(None, 1), psi, cutoff)


def test_classes_are_taken_in_turn_and_unknown_ones_refused() -> None:
    one = trained("biggan")
    assert one.labels([2, 0], 5).argmax(1).tolist() == [2, 0, 2, 0, 2]
    assert one.labels(None, 4).argmax(1).tolist() == [0, 1, 2, 0]
    with pytest.raises(ValueError, match="--class must be below the model's number of classes = 3, got 3"):
        one.labels([3], 1)
    unconditional = trained("stylegan2", c_dim=0)
    assert unconditional.labels(None, 2).shape == (2, 0)
    with pytest.raises(ValueError, match="--class does not apply"):
        unconditional.labels([0], 1)


def test_noise_modes_differ_where_there_is_noise_and_are_refused_elsewhere() -> None:
    one = trained("stylegan2")
    codes = one.codes(one.latents([0]), one.labels(None, 1))
    with torch.no_grad():
        images = [one.draw(codes, one.noise_mode(mode)) for mode in ("const", "random", "none", None)]
    assert torch.equal(images[0], images[3])
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
    with pytest.raises(ValueError, match="--noise-mode does not apply: this sagan adds no noise"):
        trained("sagan").noise_mode("const")


def test_images_drawn_in_parts_are_those_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one = trained("biggan")
    codes = one.codes(one.latents(range(5)), one.labels(None, 5))
    assert PIXELS_AT_ONCE >= 2 * 32 * 32
    monkeypatch.setattr("gankern.models.trained.PIXELS_AT_ONCE", 2 * 32 * 32)
    told: list[tuple[int, int]] = []
    parts = list(one.draw_in_parts(codes, report=lambda *at: told.append(at)))
    assert [len(part) for part in parts] == [2, 2, 1]
    assert told == [(2, 5), (4, 5), (5, 5)]
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(parts), one.draw(codes), atol=1e-5, rtol=1e-5)


def test_mixed_codes_have_some_layers_of_the_other() -> None:
    a = Codes(torch.zeros(2, 4, 3), torch.eye(2))
    b = Codes(torch.arange(1.0, 4)[:, None, None].expand(3, 4, 3), torch.ones(3, 2))
    mixed = mix(a, b, [1, 3])
    assert mixed.layers[..., 0].tolist() == [[0, k, 0, k] for k in (1, 2, 3)] * 2
    assert mixed.c.argmax(1).tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("family", OPTIONS)
def test_the_fp32_copy_of_a_network_draws_the_same(family: str) -> None:
    source = checkpoint(family)
    one, copy = Trained(source.G_ema, family), Trained(in_fp32(source, source.G_ema), family)
    assert copy.G is not one.G
    codes = one.codes(one.latents([3]), one.labels(None, 1))
    with torch.no_grad():
        assert torch.equal(one.draw(codes), copy.draw(codes))
