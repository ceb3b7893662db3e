"""stylegan2-pytorch: its files give its numbers, and come out as they went in."""

from __future__ import annotations

import argparse

import pytest
import torch
from plain_rosinality import discriminate, discriminator_state, generate, generator_state

from gankern.models.convert import load, rosinality, save


@pytest.fixture
def content():
    """What a training run of stylegan2-pytorch writes, after the conversion that adds the mean of w."""
    parts = {"g": generator_state(), "d": discriminator_state(), "g_ema": generator_state()}
    parts |= {"g_optim": {"state": {}, "param_groups": []}, "d_optim": {"state": {}, "param_groups": []}}
    return parts | {"args": argparse.Namespace(size=16), "ada_aug_p": 0.1, "latent_avg": torch.randn(10)}


@pytest.fixture
def written(content, tmp_path):
    def write(value=content):
        torch.save(value, tmp_path / "550000.pt")
        return tmp_path / "550000.pt"

    return write


def test_generators_give_the_published_images(content, written):
    checkpoint = load(written())
    z = torch.randn(3, 10)
    for G, state in ((checkpoint.G, content["g"]), (checkpoint.G_ema, content["g_ema"])):
        torch.testing.assert_close(G(z, noise_mode="const"), generate(state, z), atol=1e-4, rtol=1e-4)
    truncated = checkpoint.G_ema.mapping(z, truncation_psi=0)
    torch.testing.assert_close(truncated, content["latent_avg"].expand_as(truncated))


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_the_discriminator_gives_the_published_scores(content, written, batch):
    img = torch.randn(batch, 3, 16, 16)
    torch.testing.assert_close(load(written()).D(img), discriminate(content["d"], img), atol=1e-4, rtol=1e-4)


def test_what_went_in_comes_out(content, written, tmp_path):
    save(load(written()), tmp_path / "out.pt", "rosinality")
    out = torch.load(tmp_path / "out.pt", weights_only=True)
    assert set(out) == {"g", "d", "g_ema", "latent_avg"}
    assert torch.equal(out["latent_avg"], content["latent_avg"])
    for name in ("g", "d", "g_ema"):
        assert set(out[name]) == set(content[name])
        for key, value in content[name].items():
            assert torch.equal(out[name][key], value), key


def test_sizes_and_preset_are_read_from_the_shapes(written):
    checkpoint = load(written())
    model = checkpoint.model
    assert (model.img_resolution, model.z_dim, model.w_dim, model.map_depth) == (16, 10, 10, 2)
    assert (model.channel_base, model.channel_max) == (96, 12)
    assert (checkpoint.family, checkpoint.source, checkpoint.preset) == ("stylegan2", "rosinality", None)
    assert "optimisers" in " ".join(checkpoint.notes)


@pytest.mark.parametrize("network", ["g", "d", "g_ema"])
def test_a_missing_and_an_unknown_key_are_named(content, written, network):
    state = dict(content[network])
    for key in state:
        with pytest.raises(ValueError, match=key.replace(".", r"\.")):
            rosinality.load({network: {k: v for k, v in state.items() if k != key}, "latent_avg": torch.zeros(10)})
    with pytest.raises(ValueError, match=r"unknown iwt\.kernel"):
        load(written({network: state | {"iwt.kernel": torch.ones(2, 2)}}))


def test_another_filter_is_refused_by_name(content, written):
    content["g_ema"]["convs.0.conv.blur.kernel"] = torch.ones(4, 4)
    with pytest.raises(ValueError, match=r"convs\.0\.conv\.blur\.kernel must be the published constant"):
        load(written())


def test_channels_that_do_not_halve_are_refused(written):
    with pytest.raises(ValueError, match="custom widths"):
        load(written({"g_ema": generator_state(widths={4: 12, 8: 8, 16: 7})}))


def test_one_network_can_be_asked_for(written):
    checkpoint = load(written(), which="D")
    assert list(checkpoint.networks()) == ["D"]
    with pytest.raises(ValueError, match="not D"):
        load(written({"g_ema": generator_state()}), which="D")


def test_a_bare_state_dict_is_one_network(written):
    state = generator_state()
    assert list(load(written(state)).networks()) == ["G_ema"]
    assert list(load(written(state), which="G").networks()) == ["G"]
    assert list(load(written(discriminator_state())).networks()) == ["D"]


def test_the_mean_of_w_is_computed_where_a_file_has_none(content, written):
    del content["latent_avg"]
    checkpoint = load(written())
    w = checkpoint.G_ema.mapping(torch.randn(20_000, 10))[:, 0]
    spread = w.std(0) / 100  # of a mean over 10,000
    assert ((w.mean(0) - checkpoint.G_ema.mapping.w_avg).abs() < 5 * spread).all()
    assert any("mean of w" in note for note in checkpoint.notes)


def test_files_from_before_noise_was_stored_load(content, written):
    state = {key: value for key, value in content["g_ema"].items() if not key.startswith("noises.")}
    checkpoint = load(written({"g_ema": state}))
    z = torch.randn(2, 10)
    silent = {f"noises.noise_{i}": torch.zeros(1, 1, 4 << (i + 1) // 2, 4 << (i + 1) // 2) for i in range(5)}
    images = checkpoint.G_ema(z, noise_mode="none")
    torch.testing.assert_close(images, generate(state | silent, z), atol=1e-4, rtol=1e-4)
    assert any("noise" in note for note in checkpoint.notes)


def test_networks_it_does_not_know_are_not_written(written, tmp_path):
    checkpoint = load(written())
    object.__setattr__(checkpoint.model, "c_dim", 3)
    with pytest.raises(ValueError, match="no labels"):
        save(checkpoint, tmp_path / "out.pt", "rosinality")
    assert not (tmp_path / "out.pt").exists()
