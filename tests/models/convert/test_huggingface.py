"""Hugging Face's BigGAN-deep: its files give its numbers at every truncation."""

from __future__ import annotations

import json

import pytest
import torch
from plain_huggingface import generate, generator_state

from gankern.models.convert import huggingface, load, save

CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture
def state():
    return generator_state()


@pytest.fixture
def folder(state, tmp_path):
    torch.save(state, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"eps": 1e-4, "n_stats": 51, "output_dim": 64}))
    return tmp_path


def inputs():
    return torch.randn(3, 6), torch.eye(5)[[3, 0, 4]]


def test_the_generator_gives_the_published_images(state, folder):
    z, c = inputs()
    for path in (folder, folder / "pytorch_model.bin"):
        checkpoint = load(path)
        assert list(checkpoint.networks()) == ["G_ema"]
        torch.testing.assert_close(checkpoint.G_ema(z, c), generate(state, z, c, 1.0), **CLOSE)


@pytest.mark.parametrize("truncation", [0.0, 0.4, 0.413])
def test_another_truncation_takes_other_statistics(state, truncation):
    z, c = inputs()
    G = huggingface.load(state, truncation=truncation).G_ema
    torch.testing.assert_close(G(z, c), generate(state, z, c, truncation), **CLOSE)


def test_options_are_read_from_the_shapes(folder):
    model = load(folder).model
    assert (model.img_resolution, model.ch, model.z_dim, model.c_dim, model.shared_dim) == (64, 4, 6, 5, 6)
    assert (model.deep, model.attention, model.bn_eps, model.g_spectral_norm) == (True, (16,), 1e-4, False)


def test_a_missing_and_an_unknown_key_are_named(state):
    for key in [*state][:: len(state) // 30]:
        with pytest.raises(ValueError, match=key.replace(".", r"\.")):
            huggingface.load({k: v for k, v in state.items() if k != key})
    with pytest.raises(ValueError, match=r"unknown generator\.layers\.0\.bn_9"):
        huggingface.load(state | {"generator.layers.0.bn_9": torch.ones(1)})


def test_there_is_no_discriminator_and_no_way_back(folder, tmp_path):
    with pytest.raises(ValueError, match="not D"):
        load(folder, which="D")
    with pytest.raises(ValueError, match="--to must be one of"):
        save(load(folder), tmp_path / "out", "huggingface")


def test_a_truncation_that_there_is_not_is_refused(state):
    with pytest.raises(ValueError, match=r"truncation must be from 0 to 1, got 1\.5"):
        huggingface.load(state, truncation=1.5)
