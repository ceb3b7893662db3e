"""Freeze-D."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from gankern.models.config import FAMILIES, find_preset, resolve
from gankern.models.training.freeze import freeze_layers
from gankern.models.training.objectives import Batch
from gankern.models.training.phases import make_phases, run_phase
from gankern.models.training.state import new_state

# Configuration: its first layers, counted from the image.
FIRST = {
    "digits": ["b32.fromrgb", "b32.conv0", "b32.conv1", "b32.skip", "b16.conv0"],
    "progan-digits": ["b32.fromrgb", "b32.conv0", "b32.conv1", "b16.conv0", "b16.conv1"],
    "stylegan-digits": ["b32.fromrgb", "b32.conv0", "b32.conv1", "b16.conv0", "b16.conv1"],
    "biggan-digits": ["blocks.0.0.conv1", "blocks.0.0.conv2", "blocks.0.0.conv_sc", "blocks.1.0.conv1"],
    "sagan128": ["blocks.0.0.conv1", "blocks.0.0.conv2", "blocks.0.0.conv_sc", "blocks.1.0.conv1"],
    "biggan-deep128": ["input_conv", "blocks.0.0.conv1", "blocks.0.0.conv2", "blocks.0.0.conv3", "blocks.0.0.conv4"],
}


def small(cfg: str) -> tuple[Any, Any, Any]:
    """Networks of a configuration as narrow as they go, and its training at full resolution."""
    model, training = resolve(cfg, 32, 1, 4, precision="fp32")
    widths = {"channel_base": 64, "channel_max": 8, "fmap_base": 64, "fmap_max": 8, "ch": 4, "d_ch": 4, "map_depth": 1}
    model = replace(model, **{name: value for name, value in widths.items() if hasattr(model, name)})  # type: ignore[type-var]
    torch.manual_seed(0)
    if training.growth is not None:
        training = replace(training, growth=replace(training.growth, first_resolution=32))
    return *FAMILIES[find_preset(cfg)[0]].build(model), replace(training, batch=4, batch_gpu=None)


@pytest.mark.parametrize("cfg", FIRST)
def test_the_first_layers_are_those_next_to_the_image(cfg: str) -> None:
    _, D, _ = small(cfg)
    names = {layer: name for name, layer in D.named_modules()}
    assert [names[layer] for layer in D.layers_from_image()][: len(FIRST[cfg])] == FIRST[cfg]


@pytest.mark.parametrize("cfg", FIRST)
def test_frozen_layers_compute_the_same_and_are_not_trained(cfg: str) -> None:
    G, D, training = small(cfg)
    training = replace(training, freeze_d=4, r1_gamma=1.0, r1_interval=1)
    before, keys = copy.deepcopy(D), list(D.state_dict())
    state = new_state(G, D, training, torch.device("cpu"))
    c = torch.eye(4)
    batch = Batch(torch.rand(4, 1, 32, 32) * 2 - 1, c, torch.randn(4, G.z_dim), c)
    torch.testing.assert_close(D.eval()(batch.real_img, c), before.eval()(batch.real_img, c), rtol=0, atol=0)
    D.train()
    for phase in make_phases(state, training):
        run_phase(phase, state, training, batch)
    assert set(D.state_dict()) == set(keys)
    frozen, old = {n for n, _ in before.named_parameters()} - {n for n, _ in D.named_parameters()}, before.state_dict()
    assert frozen == {f"{layer}.{name}" for layer in FIRST[cfg][:4] for name in ("weight", "bias")} & old.keys()
    changed = {name for name, value in D.state_dict().items() if not torch.equal(value, old[name])}
    assert changed >= {name for name, p in D.named_parameters() if p.grad is not None and p.grad.any()} != set()
    assert not changed & frozen


def test_more_layers_than_there_are_cannot_be_frozen() -> None:
    _, D, _ = small("digits")
    with pytest.raises(ValueError, match="freeze_d must be at most 10, the layers of D, got 11"):
        freeze_layers(D, 11)
