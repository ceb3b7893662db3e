"""PyTorch-StudioGAN's BigGAN: its files give its numbers, and come out as they went in."""

from __future__ import annotations

import pytest
import torch
from plain_studiogan import discriminate, discriminator_state, generate, generator_state

from gankern.models.convert import load, save, studiogan

CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture
def states():
    return {"G": generator_state(), "D": discriminator_state(), "G_ema": generator_state()}


@pytest.fixture
def folder(states, tmp_path):
    """What a training run writes, beside its optimisers' state."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name, state in states.items():
        content = {"state_dict": state, "optimizer": {"state": {}, "param_groups": []}, "step": 100, "run_name": "x"}
        torch.save(content, folder / f"model={name}-best-weights-step=100.pth")
    return folder


def test_networks_give_the_published_numbers(states, folder):
    checkpoint = load(folder)
    z, labels = torch.randn(3, 16), torch.tensor([3, 0, 4])
    c = torch.eye(5)[labels]
    for name in ("G", "G_ema"):
        torch.testing.assert_close(getattr(checkpoint, name)(z, c), generate(states[name], z, labels), **CLOSE)
    img = torch.rand(3, 3, 32, 32) * 2 - 1
    scores = discriminate(states["D"], img, labels)
    torch.testing.assert_close(checkpoint.D(img, c), scores, **CLOSE)


def test_what_went_in_comes_out(states, folder, tmp_path):
    save(load(folder), tmp_path / "out", "studiogan")
    for name, state in states.items():
        (file,) = (tmp_path / "out").glob(f"model={name}-*.pth")
        out = torch.load(file, weights_only=True)["state_dict"]
        assert set(out) == set(state)
        assert [key for key in state if not torch.equal(out[key], state[key])] == []


def test_one_file_is_one_network(states, folder):
    checkpoint = load(folder / "model=D-best-weights-step=100.pth")
    assert list(checkpoint.networks()) == ["D"]
    assert list(studiogan.load(states["G"]).networks()) == ["G_ema"]
    assert list(studiogan.load(states["G"], "G").networks()) == ["G"]


def test_options_are_read_from_the_shapes(folder):
    model = load(folder).model
    assert (model.img_resolution, model.ch, model.z_dim, model.c_dim, model.shared_dim) == (32, 2, 16, 5, 6)
    assert (model.hier, model.attention, model.sn_layout, model.bn_eps) == (True, (16,), "torch", 1e-4)


def test_a_generator_without_spectral_norm_loads():
    state = generator_state(normalised=False, attention=())
    z, labels = torch.randn(2, 16), torch.tensor([1, 2])
    G = studiogan.load(state).G_ema
    torch.testing.assert_close(G(z, torch.eye(5)[labels]), generate(state, z, labels), **CLOSE)


@pytest.mark.parametrize("network", ["G", "D"])
def test_a_missing_and_an_unknown_key_are_named(states, network):
    state = states[network]
    for key in [*state][:: len(state) // 12]:
        if not key.endswith("num_batches_tracked"):
            with pytest.raises(ValueError, match=key.replace(".", r"\.")):
                studiogan.load({f"model={network}-best.pth": {"state_dict": {k: state[k] for k in state if k != key}}})
    with pytest.raises(ValueError, match=r"unknown info_mlp\.weight"):
        studiogan.load({"state_dict": state | {"info_mlp.weight": torch.ones(1)}})


def test_several_files_of_one_network_are_refused(folder, states):
    torch.save({"state_dict": states["G"]}, folder / "model=G-current-weights-step=200.pth")
    with pytest.raises(ValueError, match="name one file"):
        load(folder)


def test_its_widths_at_64_which_are_not_biggan_s_are_refused():
    with pytest.raises(ValueError, match="which BigGAN has at no resolution"):
        studiogan.load(generator_state(units=(16, 8, 4, 2, 1), attention=()))


def test_networks_of_biggan_pytorch_are_not_written(folder, tmp_path):
    with pytest.raises(ValueError, match="must be 'biggan'"):
        save(load(folder), tmp_path / "out", "biggan-pytorch")
