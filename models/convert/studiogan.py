"""BigGAN as PyTorch-StudioGAN keeps it: files of one network each, {state_dict, optimizer, step, ...}, or their folder.

Its networks differ from BigGAN-PyTorch's in eps (1e-4 in the batch normalisations), in spectral norm, whose second
vector is stored, and in the discriminator's skips, which get what the block's first ReLU made: it works in place there.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..training.atomic import write_atomically
from .biggan_pytorch import DiscriminatorShapes, GeneratorShapes, options_of
from .checkpoint import NETWORKS, Checkpoint, Entry, Format, Table, assemble, chosen, disassemble
from .states import State, count, is_state, naming

NAME = "studiogan"
WEIGHTS = ("weight", "weight_orig")  # without and with spectral norm
GENERATOR = tuple(f"{layer}.{leaf}" for layer in ("linear0", "conv2d5") for leaf in WEIGHTS)
DISCRIMINATOR = ("blocks.0.0.conv2d1.weight_orig", "blocks.0.0.conv2d2.weight_orig", "linear1.weight_orig")
CONVOLUTIONS = {"conv1": "conv2d1", "conv2": "conv2d2", "conv_sc": "conv2d0"}
STATISTICS = {"stored_mean": "running_mean", "stored_var": "running_var"}
ATTENTION = {"theta": "conv1x1_theta", "phi": "conv1x1_phi", "g": "conv1x1_g", "o": "conv1x1_attn"}
OUTPUT = {"gain": "weight", "bias": "bias", **STATISTICS}


def recognises(content: Any) -> bool:
    """Whether it is a file or a folder of the BigGAN, or a state dict out of one."""
    return isinstance(content, dict) and bool(_states(content))


def load(content: Any, which: str | None = None) -> Checkpoint:
    """The networks of the files; optimisers' state is left out."""
    states = chosen(NAME, _states(content), which)
    shapes = {name: (_shapes_of_D if name == "D" else _shapes_of_G)(name, state) for name, state in states.items()}
    normalised = all(name == "D" or "linear0.weight_orig" in state for name, state in states.items())
    own = {"sn_layout": "torch", "g_spectral_norm": normalised, "relu_skip": True}
    model = options_of(NAME, shapes, bn_eps=1e-4, sn_eps=1e-6, **own)
    notes = ["eps 1e-4 in the batch normalisations and 1e-6 in spectral norm, as that code has them"]
    tables = {name[0]: _table(_attention(state), _linear(name)) for name, state in states.items()}
    return assemble(NAME, "biggan", model, states, tables, notes, ignored=lambda key: key.endswith("batches_tracked"))


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Writes a folder with one file per network, {"state_dict"}, named as that code names them.

    Raises:
        ValueError: The networks are not such as that code has.
    """
    model: Any = checkpoint.model
    if checkpoint.family != "biggan":
        raise ValueError(f"{NAME} knows BigGAN alone, got {checkpoint.family}")
    own = (model.sn_layout, model.bn_eps, model.relu_skip, model.deep)
    if own != ("torch", 1e-4, True, False):
        names = "sn_layout, bn_eps, relu_skip and deep"
        raise ValueError(f"{NAME}: {names} must be 'torch', 0.0001, True and False, got {own}")
    path.mkdir(parents=True, exist_ok=True)
    for name, net in checkpoint.networks().items():
        stages = [i for i, stage in enumerate(net.blocks) if len(stage) > 1]  # type: ignore[arg-type]
        state = disassemble(net, _table(stages, _linear(name)))
        means = [key for key in state if key.endswith("running_mean")]
        state |= {key.replace("running_mean", "num_batches_tracked"): torch.tensor(0) for key in means}
        file = path / f"model={name}-current-weights-step=0.pth"
        write_atomically(file, partial(torch.save, {"state_dict": state, "step": 0}))


def _table(stages: list[int], linear: str) -> Table:
    """Where our tensors are in theirs; attention, behind these stages, is a block of its own there."""

    def entry(key: str) -> Entry | str:
        parts = key.split(".")
        if parts[0] == "shared":
            return key
        if parts[0] == "linear":
            return f"{linear}.{parts[1]}"
        if parts[0] == "embed":
            return f"embedding.{parts[1]}"
        if parts[0] == "output_layer":
            return f"conv2d5.{parts[2]}" if parts[1] == "2" else f"bn4.{OUTPUT[parts[2]]}"
        block, layer, leaf = int(parts[1]), parts[3], ".".join(parts[4:])
        number = block + sum(stage < block for stage in stages)
        if parts[2] == "1":
            place = f"blocks.{number + 1}.0"
            if layer == "gamma":
                return Entry(f"{place}.sigma", lambda x: x.reshape([]), lambda x: x.reshape([1]))
            return f"{place}.{ATTENTION[layer]}.{leaf}"
        if layer in CONVOLUTIONS:
            return f"blocks.{number}.0.{CONVOLUTIONS[layer]}.{leaf}"
        return f"blocks.{number}.0.{layer}.{f'bn.{STATISTICS[leaf]}' if leaf in STATISTICS else leaf}"

    return entry


def _linear(name: str) -> str:
    return "linear1" if name == "D" else "linear0"


def _attention(state: State) -> list[int]:
    """The stages that are followed by attention, counted without it."""
    blocks = [i for i in range(count(state, "blocks.")) if f"blocks.{i}.0.sigma" in state]
    return [i - 1 - before for before, i in enumerate(blocks)]


def _stages(state: State) -> list[int]:
    """The blocks that are not attention."""
    return [i for i in range(count(state, "blocks.")) if any(f"blocks.{i}.0.conv2d1" in key for key in state)]


def _weight(state: State, layer: str) -> Tensor:
    """A layer's weight, with or without spectral norm."""
    name = f"{layer}.weight_orig"
    return state[name if name in state or f"{layer}.weight" not in state else f"{layer}.weight"]


def _shapes_of_G(name: str, state: State) -> GeneratorShapes:
    with naming(f"{NAME}: {name}"):
        convs = [_weight(state, f"blocks.{i}.0.conv2d1") for i in _stages(state)]
        shared = state.get("shared.weight")
        return GeneratorShapes(
            linear=tuple(_weight(state, "linear0").shape),
            shared=None if shared is None else tuple(shared.shape),
            gain=tuple(_weight(state, "blocks.0.0.bn1.gain").shape),
            gain_is_linear=True,
            widths=(convs[0].shape[1], *(len(conv) for conv in convs)),
            attention=tuple(_attention(state)),
            img_channels=len(_weight(state, "conv2d5")),
            deep=False,
        )


def _shapes_of_D(name: str, state: State) -> DiscriminatorShapes:
    with naming(f"{NAME}: {name}"):
        stages = _stages(state)
        embed = state.get("embedding.weight_orig")
        return DiscriminatorShapes(
            widths=tuple(len(state[f"blocks.{i}.0.conv2d2.weight_orig"]) for i in stages),
            hidden=tuple(len(state[f"blocks.{i}.0.conv2d1.weight_orig"]) for i in stages),
            attention=tuple(_attention(state)),
            embed=None if embed is None else tuple(embed.shape),
            img_channels=state["blocks.0.0.conv2d1.weight_orig"].shape[1],
            deep=False,
        )


def _states(content: Mapping[str, Any]) -> dict[str, State]:
    """The state dicts of a folder or a file by our names.

    Raises:
        ValueError: A folder has several files of one network.
    """
    state: Any = content.get("state_dict", content)
    if is_state(state, *GENERATOR):
        return {"G_ema": state}
    if is_state(state, *DISCRIMINATOR):
        return {"D": state}
    found: dict[str, State] = {}
    for name in NETWORKS:
        files = [file for file in content if isinstance(file, str) and file.startswith(f"model={name}-")]
        if len(files) > 1:
            raise ValueError(f"{NAME}: the folder has {', '.join(files)}; name one file, or leave one of each network")
        one = content[files[0]] if files else None
        state = one.get("state_dict") if isinstance(one, dict) else None
        if is_state(state, *(DISCRIMINATOR if name == "D" else GENERATOR)):
            found[name] = state
    return found


STUDIOGAN = Format(NAME, recognises, load, save)
