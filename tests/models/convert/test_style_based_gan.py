"""style-based-gan-pytorch: its files give its numbers, its differences from the paper included."""

from __future__ import annotations

import pytest
import torch
from plain_style_based_gan import discriminate, discriminator_state, generate, generator_state

from gankern.models.convert import load, save, style_based_gan
from gankern.models.stylegan import Generator

LAST = 5  # the step of 128x128
CLOSE = {"atol": 2e-3, "rtol": 1e-4}  # the instance norm of small maps enlarges what a convolution rounds


@pytest.fixture
def content():
    """What a training run of style-based-gan-pytorch writes."""
    parts = {"generator": generator_state(), "discriminator": discriminator_state(), "g_running": generator_state()}
    return parts | {"g_optimizer": {"state": {}, "param_groups": []}, "d_optimizer": {"state": {}, "param_groups": []}}


@pytest.fixture
def written(content, tmp_path):
    def write(value=content):
        torch.save(value, tmp_path / "train_step-7.model")
        return tmp_path / "train_step-7.model"

    return write


def image(G, z, step):
    """What G makes at a step, and the noise that it adds there: one map for both layers of a resolution."""
    G.grow(4 << step, False)
    noises = [G.synthesis.block(4 << i).epilogue0.noise_const for i in range(step + 1)]
    return G(z, noise_mode="const"), noises


@pytest.mark.parametrize("step", [0, 1, 4, LAST])
def test_generators_give_the_published_images(content, written, step):
    checkpoint = load(written())
    z = torch.randn(2, 6)
    for G, state in ((checkpoint.G, content["generator"]), (checkpoint.G_ema, content["g_running"])):
        img, noises = image(G, z, step)
        torch.testing.assert_close(img, generate(state, z, noises, step), **CLOSE)


def test_both_layers_of_a_resolution_add_the_same_drawn_noise(content):
    G = style_based_gan.load(content).G_ema
    G.grow(8, False)
    z = torch.randn(2, 6)
    torch.manual_seed(1)
    img = G(z)
    torch.manual_seed(1)
    noises = [torch.randn(2, 1, size, size) for size in (4, 8)]
    torch.testing.assert_close(img, generate(content["g_running"], z, noises, 1), **CLOSE)


@pytest.mark.parametrize(("step", "batch"), [(0, 1), (1, 3), (4, 2), (LAST, 4)])
def test_the_discriminator_gives_the_published_scores(content, written, step, batch):
    D = load(written()).D
    D.grow(4 << step, False)
    img = torch.randn(batch, 3, 4 << step, 4 << step)
    torch.testing.assert_close(D(img), discriminate(content["discriminator"], img, step), atol=1e-4, rtol=1e-4)


def test_what_went_in_comes_out(content, written, tmp_path):
    """Up to the rounding of a multiplication and a division: He's factor is in our weights."""
    save(load(written()), tmp_path / "out.model", "style-based-gan-pytorch")
    out = torch.load(tmp_path / "out.model", weights_only=True)
    assert set(out) == {"generator", "discriminator", "g_running"}
    for name, state in out.items():
        assert set(state) == set(content[name])
        for key, value in content[name].items():
            torch.testing.assert_close(state[key], value, atol=1.2e-7, rtol=2.4e-7)
    assert torch.equal(load(tmp_path / "out.model").D.b4.conv.weight, load(written()).D.b4.conv.weight)


def test_resolutions_that_were_never_trained_do_not_run(content, written):
    for name in ("generator", "g_running"):
        for key, value in content[name].items():
            if f"progression.{LAST}." in key or f"to_rgb.{LAST}." in key:
                if "noise" in key or key.endswith("bias"):
                    value.zero_()
                if "adain" in key and key.endswith("bias"):
                    value[: len(value) // 2] = 1
    checkpoint = load(written())
    assert checkpoint.G_ema(torch.randn(1, 6)).shape == (1, 3, 64, 64)
    assert checkpoint.model.img_resolution == 128
    assert any("64x64" in note for note in checkpoint.notes)


@pytest.mark.parametrize("network", ["generator", "discriminator", "g_running"])
def test_a_missing_and_an_unknown_key_are_named(content, network):
    state = content[network]
    for key in [*state][::5]:
        with pytest.raises(ValueError, match=key.replace(".", r"\.")):
            style_based_gan.load({network: {k: v for k, v in state.items() if k != key}})
    with pytest.raises(ValueError, match=r"unknown progression\.0\.odd"):
        style_based_gan.load({network: {**state, "progression.0.odd": torch.ones(1)}})


def test_a_discriminator_without_its_first_activation_is_refused(content):
    old = {
        key.replace(".0.conv", ".conv") if "from_rgb" in key else key: v for key, v in content["discriminator"].items()
    }
    with pytest.raises(ValueError, match="no activation after from_rgb"):
        style_based_gan.load({"discriminator": old})


def test_a_bare_state_dict_is_one_network(written):
    assert list(load(written(generator_state())).networks()) == ["G_ema"]
    assert list(load(written(discriminator_state())).networks()) == ["D"]


def test_the_paper_s_own_networks_are_not_written(content, tmp_path):
    checkpoint = style_based_gan.load(content)
    object.__setattr__(checkpoint.model, "variant", "stylegan")
    with pytest.raises(ValueError, match="only stylegan of variant"):
        save(checkpoint, tmp_path / "out.model", "style-based-gan-pytorch")


def test_a_variant_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="variant must be one of stylegan, style-based-gan-pytorch, got 'other'"):
        Generator(4, 0, 4, 8, 3, channel_max=4, variant="other")
