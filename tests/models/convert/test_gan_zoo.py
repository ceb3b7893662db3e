"""pytorch_GAN_zoo: its files give its numbers, its biases, gains and standard deviations included."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from plain_gan_zoo import discriminate, discriminator_state, generate, generator_state

from gankern.models.convert import gan_zoo, load, save

CLOSE = {"atol": 1e-5, "rtol": 1e-4}


@pytest.fixture
def content():
    return {"netG": generator_state(), "netD": discriminator_state(), "avgG": generator_state()}


@pytest.fixture
def config(monkeypatch):
    """An object of the class that the zoo keeps its options in."""
    module = types.ModuleType("models.utils.config")
    module.BaseConfig = type("BaseConfig", (), {"__module__": module.__name__})
    for name in ("models", "models.utils", "models.utils.config"):
        monkeypatch.setitem(sys.modules, name, module if name == module.__name__ else types.ModuleType(name))
    config = module.BaseConfig()
    config.leakyReluLeak, config.depthScales = 0.2, [12, 6]
    return config


@pytest.fixture
def written(tmp_path):
    def write(value):
        torch.save(value, tmp_path / "celebaHQ_s8_i96000.pt")
        return tmp_path / "celebaHQ_s8_i96000.pt"

    return write


def test_networks_give_the_published_numbers(content, written, config):
    checkpoint = load(written({"config": config, **content}))
    z = torch.randn(3, 10) * 5
    torch.testing.assert_close(checkpoint.G(z), generate(content["netG"], z), **CLOSE)
    torch.testing.assert_close(checkpoint.G_ema(z), generate(content["avgG"], z), **CLOSE)
    for batch in (8, 4, 3, 2):
        img = torch.randn(batch, 3, 16, 16)
        torch.testing.assert_close(checkpoint.D(img), discriminate(content["netD"], img), **CLOSE)


def test_older_files_without_module_in_their_names_load(content, written):
    old = {name: {key.replace(".module", ""): v for key, v in state.items()} for name, state in content.items()}
    z = torch.randn(2, 10)
    torch.testing.assert_close(load(written(old)).G_ema(z), generate(content["avgG"], z), **CLOSE)


def test_sizes_are_read_from_the_shapes(content, written):
    checkpoint = load(written(content))
    model = checkpoint.model
    assert (model.img_resolution, model.z_dim, model.fmap_base, model.fmap_max) == (16, 10, 48, 12)
    assert (checkpoint.family, checkpoint.source) == ("progan", "pytorch_GAN_zoo")


def test_an_option_that_is_not_the_published_one_is_refused(content, written, config):
    config.leakyReluLeak = 0.1
    with pytest.raises(ValueError, match=r"leakyReluLeak must be 0\.2, got 0\.1"):
        load(written({"config": config, **content}))


@pytest.mark.parametrize("network", ["netG", "netD", "avgG"])
def test_a_missing_and_an_unknown_key_are_named(content, network):
    state = content[network]
    for key in state:
        with pytest.raises(ValueError, match=key.replace(".", r"\.")):
            gan_zoo.load({network: {k: v for k, v in state.items() if k != key}})
    with pytest.raises(ValueError, match=r"unknown groupScale0\.7"):
        gan_zoo.load({network: state | {"groupScale0.7": torch.ones(1)}})


def test_a_conditional_discriminator_is_refused(content):
    content["netD"]["decisionLayer.module.weight"] = torch.randn(11, 12)
    with pytest.raises(ValueError, match="11 outputs"):
        gan_zoo.load(content)


def test_it_is_not_written(content, written, tmp_path):
    with pytest.raises(ValueError, match="--to must be one of"):
        save(load(written(content)), tmp_path / "out.pt", "pytorch_GAN_zoo")
