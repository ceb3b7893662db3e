"""Hugging Face's BigGAN-deep (pytorch-pretrained-BigGAN): generators alone, from the published TensorFlow ones.

Read only. Its weights are taken over with their spectral norm divided out: the layer that makes the image is normalised
with all its channels, of which three are used. Of its statistics, one set per truncation, one set is taken.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .biggan_pytorch import GeneratorShapes, options_of
from .checkpoint import Checkpoint, Entry, Format, Table, assemble, chosen, refuse_keys
from .states import State, count, is_state, naming

NAME = "huggingface"
MARKERS = ("generator.gen_z.weight_orig", "generator.conv_to_rgb.weight_orig", "generator.bn.running_means")
NORMALISED = ("weight_orig", "weight_u", "weight_v")
STATISTICS = {"stored_mean": "running_means", "stored_var": "running_vars"}
EPS = 1e-4  # of both kinds of normalisation, unless the configuration says otherwise


def recognises(content: Any) -> bool:
    """Whether it is a folder with config.json and pytorch_model.bin, or the state dict in the latter."""
    return isinstance(content, dict) and _state(content) is not None


def load(content: Any, which: str | None = None, truncation: float = 1.0) -> Checkpoint:
    """The generator of the files.

    Args:
        content: What `gankern.models.convert.reading.read` found.
        which: 'G' or 'G_ema' (the default), as which it is loaded.
        truncation: 0 to 1: for latents of which truncation it takes the statistics.
    """
    if not 0 <= truncation <= 1:
        raise ValueError(f"truncation must be from 0 to 1, got {truncation}")
    state = _state(content)
    if state is None:
        raise ValueError(f"{NAME}: there is no generator")
    with naming(f"{NAME}: the generator"):
        state = _at(truncation, _without_spectral_norm(state))
    states = chosen(NAME, {"G_ema": state}, which)
    config = content.get("config.json")
    eps = config.get("eps", EPS) if isinstance(config, dict) else EPS
    model = options_of(NAME, {"G": _shapes(state)}, bn_eps=eps, sn_eps=eps, sn_layout="torch", g_spectral_norm=False)
    notes = [f"statistics for truncation {truncation:g} of z, of the {NAME} file's sets", "without its spectral norm"]
    return assemble(NAME, "biggan", model, states, {"G": _table(_attention(state))}, notes)


def _without_spectral_norm(state: State) -> dict[str, Tensor]:
    """Every weight divided by the spectral norm that its stored vectors give, as in evaluation."""
    layers = {key.rpartition(".")[0] for key in state if key.endswith(NORMALISED)}
    expected = [f"{layer}.{leaf}" for layer in sorted(layers) for leaf in NORMALISED]
    refuse_keys(f"{NAME}: the generator", [key for key in expected if key not in state], ())
    plain = {key: value for key, value in state.items() if not key.endswith(NORMALISED)}
    for layer in layers:
        weight, u, v = (state[f"{layer}.{leaf}"] for leaf in NORMALISED)
        if weight.ndim < 2 or 0 in weight.shape or (u.numel(), v.numel()) != (len(weight), weight[0].numel()):
            raise ValueError(f"{NAME}: {layer}.weight_u and weight_v do not fit its weight {list(weight.shape)}")
        plain[f"{layer}.weight"] = weight / (u.flatten() @ weight.flatten(1) @ v.flatten())
    return plain


def _at(truncation: float, state: State) -> dict[str, Tensor]:
    """The statistics for one truncation; between two sets as published, where the nearer one has the smaller weight."""
    found = dict(state)
    for key, value in state.items():
        if key.endswith(tuple(STATISTICS.values())):
            share, start = math.modf(truncation * (len(value) - 1))
            first = int(start)
            found[key] = value[first] if share == 0 else value[first] * share + value[first + 1] * (1 - share)
    return found


def _table(attention: list[int]) -> Table:
    """Where our tensors are in theirs, after `_at` and `_without_spectral_norm`; attention is a layer of its own."""

    def entry(key: str) -> Entry | str:
        parts = key.split(".")
        if parts[0] == "shared":
            return Entry("embeddings.weight", lambda x: x.t())
        if parts[0] == "linear":
            return Entry(f"generator.gen_z.{parts[1]}", _first_weight if parts[1] == "weight" else _channels_first)
        if parts[0] == "output_layer":
            if parts[1] == "2":
                return Entry(f"generator.conv_to_rgb.{parts[2]}", lambda x: x[:3])
            return f"generator.bn.{({'gain': 'weight'} | STATISTICS).get(parts[2], parts[2])}"
        block, layer = int(parts[1]), parts[3]
        place = f"generator.layers.{block + int(parts[2]) + sum(one < block for one in attention)}"
        if parts[2] == "1":
            if layer == "gamma":
                return Entry(f"{place}.gamma", lambda x: x.reshape([]))
            return f"{place}.snconv1x1_{'o_conv' if layer == 'o' else layer}.{parts[4]}"
        number = int(layer[-1]) - 1
        if layer.startswith("conv"):
            return f"{place}.conv_{number}.{parts[4]}"
        if parts[4] in STATISTICS:
            return f"{place}.bn_{number}.{STATISTICS[parts[4]]}"
        return Entry(f"{place}.bn_{number}.{'scale' if parts[4] == 'gain' else 'offset'}.weight", _label_first)

    return entry


def _label_first(weight: Tensor) -> Tensor:
    """Columns for [z, y], which are of one length, as columns for [y, z]."""
    z, y = weight.chunk(2, dim=1)
    return torch.cat([y, z], dim=1)


def _channels_first(rows: Tensor) -> Tensor:
    """Rows for features [4, 4, C] as rows for features [C, 4, 4]."""
    return rows.unflatten(0, (4, 4, -1)).movedim(2, 0).flatten(0, 2)


def _first_weight(weight: Tensor) -> Tensor:
    return _label_first(_channels_first(weight))


def _attention(state: State) -> list[int]:
    """The blocks, counted without attention, that are followed by it."""
    layers = [i for i in range(count(state, "generator.layers.")) if f"generator.layers.{i}.gamma" in state]
    return [i - 1 - before for before, i in enumerate(layers)]


def _shapes(state: State) -> GeneratorShapes:
    with naming(f"{NAME}: the generator"):
        layers = range(count(state, "generator.layers."))
        blocks = [f"generator.layers.{i}" for i in layers if any(f"generator.layers.{i}.conv" in key for key in state)]
        y, classes = state["embeddings.weight"].shape
        outs = [len(state[f"{block}.conv_3.weight"]) for block in blocks[1::2]]
        return GeneratorShapes(
            linear=tuple(state["generator.gen_z.weight"].shape),
            shared=(classes, y),
            gain=tuple(state[f"{blocks[0]}.bn_0.scale.weight"].shape),
            gain_is_linear=True,
            widths=(state[f"{blocks[0]}.conv_0.weight"].shape[1], *outs),
            attention=tuple(block // 2 for block in _attention(state)),
            img_channels=3,
            deep=True,
        )


def _state(content: dict[str, Any]) -> State | None:
    for value in (content, content.get("pytorch_model.bin")):
        if is_state(value, *MARKERS):
            return value
    return None


HUGGINGFACE = Format(NAME, recognises, load)
