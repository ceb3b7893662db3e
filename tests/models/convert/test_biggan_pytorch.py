"""BigGAN-PyTorch: its files give its numbers, BigGAN-deep's too, and come out as they went in."""

from __future__ import annotations

import pytest
import torch
from plain_biggan import RES32, discriminate, discriminator_state, generate, generator_state

from gankern.models.convert import biggan_pytorch, load, save

CLOSE = {"atol": 1e-4, "rtol": 1e-4}


def states(deep):
    """All of a run's files."""
    G, D = generator_state(deep=deep), discriminator_state(deep=deep)
    return {"G": G, "D": D, "G_ema": generator_state(deep=deep)}


@pytest.fixture
def folder(tmp_path):
    def write(files):
        run = tmp_path / "weights"
        run.mkdir(exist_ok=True)
        for name, state in files.items():
            torch.save(state, run / f"{name}.pth")
        torch.save({"itr": 100, "epoch": 3, "config": {"ch": 2}}, run / "state_dict.pth")
        torch.save({"state": {}, "param_groups": []}, run / "G_optim.pth")
        return run

    return write


@pytest.mark.parametrize("deep", [False, True], ids=["biggan", "deep"])
def test_networks_give_the_published_numbers(folder, deep):
    files = states(deep)
    checkpoint = load(folder(files))
    labels = torch.tensor([3, 0, 4])
    c = torch.eye(5)[labels]
    z = torch.randn(3, checkpoint.model.z_dim)
    for name in ("G", "G_ema"):
        G = getattr(checkpoint, name)
        torch.testing.assert_close(G(z, c), generate(files[name], z, labels, deep), **CLOSE)
    img = torch.rand(3, 3, 64, 64) * 2 - 1
    expected = discriminate(files["D"], img, labels, deep)
    torch.testing.assert_close(checkpoint.D(img, c), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("deep", [False, True], ids=["biggan", "deep"])
def test_what_went_in_comes_out(folder, tmp_path, deep):
    files = states(deep)
    save(load(folder(files)), tmp_path / "out", "biggan-pytorch")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"G.pth", "D.pth", "G_ema.pth"}
    for name, state in files.items():
        out = torch.load(tmp_path / "out" / f"{name}.pth", weights_only=True)
        assert set(out) == set(state)
        assert [key for key in state if not torch.equal(out[key], state[key])] == []


def test_options_are_read_from_the_shapes(folder):
    model = load(folder(states(False))).model
    assert (model.img_resolution, model.ch, model.z_dim, model.c_dim, model.shared_dim) == (64, 4, 20, 5, 6)
    assert (model.hier, model.deep, model.attention) == (True, False, (16,))
    model = load(folder(states(True))).model
    assert (model.img_resolution, model.ch, model.z_dim, model.deep, model.attention) == (64, 4, 4, True, (16,))


def test_a_generator_for_32x32_without_attention_loads_alone(folder):
    state = generator_state(RES32, attention=())
    checkpoint = biggan_pytorch.load(state)
    assert list(checkpoint.networks()) == ["G_ema"]
    assert (checkpoint.model.img_resolution, checkpoint.model.attention) == (32, ())
    z, labels = torch.randn(2, 16), torch.tensor([1, 2])
    torch.testing.assert_close(checkpoint.G_ema(z, torch.eye(5)[labels]), generate(state, z, labels), **CLOSE)


def test_a_discriminator_loads_alone():
    state = discriminator_state(RES32, attention=())
    checkpoint = biggan_pytorch.load(state)
    assert list(checkpoint.networks()) == ["D"]
    assert checkpoint.model.img_resolution == 32


def test_embeddings_in_every_normalisation_are_found():
    state = generator_state(attention=())
    del state["shared.weight"]
    for key in [key for key in state if ".gain." in key or (".bias." in key and ".bn" in key)]:
        value = state.pop(key)
        if key.endswith("weight"):
            state[key] = torch.randn(5, len(value))  # one row per class, not normalised
    model = biggan_pytorch.load(state).model
    assert (model.shared_dim, model.hier, model.c_dim, model.z_dim) == (0, False, 5, 4)


@pytest.mark.parametrize("deep", [False, True], ids=["biggan", "deep"])
@pytest.mark.parametrize("name", ["G", "D"])
def test_a_missing_and_an_unknown_key_are_named(name, deep):
    state = states(deep)[name]
    for key in [*state][:: len(state) // 12]:
        with pytest.raises(ValueError, match=key.replace(".", r"\.")):
            biggan_pytorch.load({f"{name}.pth": {k: v for k, v in state.items() if k != key}})
    with pytest.raises(ValueError, match=r"unknown blocks\.0\.0\.bn7"):
        biggan_pytorch.load({f"{name}.pth": state | {"blocks.0.0.bn7.gain": torch.ones(1)}})


def test_networks_of_different_widths_are_refused():
    files = {"G.pth": generator_state(), "D.pth": discriminator_state(ch=8)}
    with pytest.raises(ValueError, match="networks of one kind expected"):
        biggan_pytorch.load(files)


def test_widths_that_biggan_has_at_no_resolution_are_refused():
    with pytest.raises(ValueError, match="which BigGAN has at no resolution"):
        biggan_pytorch.load(generator_state(units=(16, 8, 4, 2, 1)))
