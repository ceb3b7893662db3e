"""BigGAN and BigGAN-deep as BigGAN-PyTorch keeps them: a folder with G.pth, D.pth and G_ema.pth, or one of the files.

The tensors have our names, so only the options have to be found out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..presets.biggan import BigGANOptions
from ..resnet import D_WIDTHS, G_WIDTHS, discriminator_stages
from ..training.atomic import write_atomically
from .checkpoint import NETWORKS, Checkpoint, Format, assemble, chosen, disassemble
from .states import State, count, is_state, naming, only

NAME = "biggan-pytorch"
GENERATOR = ("output_layer.2.weight", "output_layer.0.stored_mean", "output_layer.2.u0")
DISCRIMINATOR = ("blocks.0.0.conv1.u0", "blocks.0.0.conv2.u0", "linear.u0")


class GeneratorShapes(NamedTuple):
    """What tells a generator's options; shapes as in our networks."""

    linear: tuple[int, ...]  # [C * h * w, features]
    shared: tuple[int, ...] | None  # [c_dim, shared_dim]
    gain: tuple[int, ...]  # of the first normalisation: [C, condition], [c_dim, C] without `shared`, or [C]
    gain_is_linear: bool
    widths: tuple[int, ...]  # of the features between the stages, and at both ends
    attention: tuple[int, ...]  # the stages that end with it
    img_channels: int
    deep: bool


class DiscriminatorShapes(NamedTuple):
    """What tells a discriminator's options."""

    widths: tuple[int, ...]  # of each stage's result; if deep, after that of the first convolution
    hidden: tuple[int, ...]  # within each stage, if not deep
    attention: tuple[int, ...]
    embed: tuple[int, ...] | None  # [c_dim, C]
    img_channels: int
    deep: bool


def recognises(content: Any) -> bool:
    """Whether it is a folder with such files, or the state dict of a generator or a discriminator."""
    return bool(_states(content))


def load(content: Any, which: str | None = None) -> Checkpoint:
    """The networks of the files; epsilons are those of its launch scripts, for no file tells them."""
    states = chosen(NAME, _states(content), which)
    shapes = {name: (_shapes_of_D if name == "D" else _shapes_of_G)(name, state) for name, state in states.items()}
    model = options_of(NAME, shapes, bn_eps=1e-5, sn_eps=1e-6)
    notes = ["eps 1e-5 in the batch normalisations and 1e-6 in spectral norm, as its launch scripts have them"]
    return assemble(NAME, "biggan", model, states, {"G": str, "D": str}, notes)


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Writes a folder with G.pth, D.pth and G_ema.pth, of the networks that there are.

    Raises:
        ValueError: The networks have something that is not known there.
    """
    model: Any = checkpoint.model
    if checkpoint.family != "biggan":
        raise ValueError(f"{NAME} knows BigGAN alone, got {checkpoint.family}")
    own = (model.sn_layout, model.bn_eps, model.g_spectral_norm, model.relu_skip)
    if own != ("biggan", 1e-5, True, False):
        names = "sn_layout, bn_eps, g_spectral_norm and relu_skip"
        raise ValueError(f"{NAME}: {names} must be 'biggan', 1e-05, True and False, got {own}")
    path.mkdir(parents=True, exist_ok=True)
    for name, net in checkpoint.networks().items():
        write_atomically(path / f"{name}.pth", partial(torch.save, disassemble(net, str)))


def options_of(
    source: str, shapes: Mapping[str, GeneratorShapes | DiscriminatorShapes], bn_eps: float, sn_eps: float, **own: Any
) -> BigGANOptions:
    """The options that give networks of these shapes.

    Args:
        source: For errors.
        shapes: By `NETWORKS`.
        bn_eps, sn_eps, own: Options that no shape tells.

    Raises:
        ValueError: There are none, or the networks do not fit each other.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, one in shapes.items():
        what = f"{source}: {name}"
        with naming(what):
            found[name] = _options_of_G(what, one) if isinstance(one, GeneratorShapes) else _options_of_D(what, one)
    both = only("kind", {name: {key: options[key] for key in ALIKE} for name, options in found.items()})
    nominal = both.pop("nominal")
    of_G = {name: options for name, options in found.items() if name != "D"}
    rest = {key: value for key, value in only("generator", of_G).items() if key not in ALIKE} if of_G else {}
    z_dim = 128 if both["deep"] else 20 * len(G_WIDTHS[nominal])
    model = {"base": 4, "z_dim": z_dim, "hier": True, "shared_dim": 128, **both, **rest, **own}
    model["img_resolution"] = nominal * model["base"] // 4
    return BigGANOptions(**model, init="ortho", bn_eps=bn_eps, sn_eps=sn_eps, precision="fp32", channels_last=False)


ALIKE = ("nominal", "img_channels", "c_dim", "ch", "deep", "attention")  # in G and D


def _options_of_G(what: str, s: GeneratorShapes) -> dict[str, Any]:
    nominal, ch = _nominal_and_ch(what, G_WIDTHS, s.widths)
    base = math.isqrt(s.linear[0] // s.widths[0])
    if base == 0 or base * base * s.widths[0] != s.linear[0]:
        raise ValueError(f"{what}: linear must make {s.widths[0]} square features, got {s.linear[0]} numbers")
    features = s.linear[1]
    slots = len(s.widths)
    if s.shared is not None:
        c_dim, shared_dim = s.shared
        hier = s.gain[1] != shared_dim
        z_dim = features - shared_dim if s.deep else features * slots if hier else features
    else:
        if s.gain_is_linear and (s.deep or s.gain[1] != features):
            raise ValueError(f"{what} lacks shared.weight")
        shared_dim, hier = 0, s.gain_is_linear
        c_dim = s.gain[0] if len(s.gain) == 2 and not hier else 0
        z_dim = features if s.deep or not hier else features * slots
    sizes: dict[str, Any] = {"nominal": nominal, "base": base, "img_channels": s.img_channels, "c_dim": c_dim}
    sizes |= {"ch": ch, "deep": s.deep, "attention": tuple(8 << i for i in s.attention)}
    return sizes | {"z_dim": z_dim, "hier": hier, "shared_dim": shared_dim}


def _options_of_D(what: str, s: DiscriminatorShapes) -> dict[str, Any]:
    nominal, ch = _nominal_and_ch(what, D_WIDTHS, s.widths)
    if not s.deep and s.hidden != s.widths:
        raise ValueError(f"{what}: its blocks are narrow inside ({s.hidden}), expected {s.widths}")
    stages = discriminator_stages(nominal, ch, None if s.deep else s.img_channels)
    attention = tuple(sorted(stages[i].resolution for i in s.attention))
    c_dim = 0 if s.embed is None else s.embed[0]
    sizes: dict[str, Any] = {"nominal": nominal, "img_channels": s.img_channels, "c_dim": c_dim, "ch": ch}
    return sizes | {"deep": s.deep, "attention": attention}


def _nominal_and_ch(what: str, table: dict[int, tuple[int, ...]], widths: tuple[int, ...]) -> tuple[int, int]:
    """The resolution and the unit for which a table has these widths."""
    for nominal, units in table.items():
        ch = widths[-1] // units[-1]
        if ch > 0 and widths == tuple(ch * unit for unit in units):
            return nominal, ch
    raise ValueError(f"{what} has the widths {widths}, which BigGAN has at no resolution")


def _shapes_of_G(name: str, state: State) -> GeneratorShapes:
    deep, stages = _depth(state)
    with naming(f"{NAME}: {name}"):
        lasts = range(1 if deep else 0, count(state, "blocks."), stages)
        conv = "conv4" if deep else "conv1"
        outs = [len(state[f"blocks.{i}.0.{conv}.weight"]) for i in lasts]
        first = state["blocks.0.0.conv1.weight"].shape[1]
        gain = state["blocks.0.0.bn1.gain.weight" if "blocks.0.0.bn1.gain" not in state else "blocks.0.0.bn1.gain"]
        shared = state.get("shared.weight")
        return GeneratorShapes(
            linear=tuple(state["linear.weight"].shape),
            shared=None if shared is None else tuple(shared.shape),
            gain=tuple(gain.shape),
            gain_is_linear="blocks.0.0.bn1.gain.u0" in state,
            widths=(first, *outs),
            attention=tuple(k for k, i in enumerate(lasts) if f"blocks.{i}.1.theta.weight" in state),
            img_channels=len(state["output_layer.2.weight"]),
            deep=deep,
        )


def _shapes_of_D(name: str, state: State) -> DiscriminatorShapes:
    deep, _ = _depth(state)
    with naming(f"{NAME}: {name}"):
        stages = range(count(state, "blocks."))
        outs = [len(state[f"blocks.{i}.0.{'conv4' if deep else 'conv2'}.weight"]) for i in stages]
        start = state["input_conv.weight" if deep else "blocks.0.0.conv1.weight"]
        embed = state.get("embed.weight")
        return DiscriminatorShapes(
            widths=(len(start), *outs) if deep else tuple(outs),
            hidden=tuple(len(state[f"blocks.{i}.0.conv1.weight"]) for i in stages),
            attention=tuple(i for i in stages if any(f"blocks.{i}.{k}.theta.weight" in state for k in (1, 2))),
            embed=None if embed is None else tuple(embed.shape),
            img_channels=start.shape[1],
            deep=deep,
        )


def _depth(state: State) -> tuple[bool, int]:
    """Whether it is BigGAN-deep, and blocks per stage, which are 2 there."""
    deep = any(".conv4." in key for key in state)
    return deep, 2 if deep else 1


def _states(content: Any) -> dict[str, State]:
    """The state dicts of a folder or a file by our names."""
    if is_state(content, *GENERATOR):
        return {"G_ema": content}
    if is_state(content, *DISCRIMINATOR):
        return {"D": content}
    found: dict[str, State] = {}
    for name in NETWORKS if isinstance(content, dict) else ():
        state = content.get(f"{name}.pth")
        if is_state(state, *(DISCRIMINATOR if name == "D" else GENERATOR)):
            found[name] = state
    return found


BIGGAN_PYTORCH = Format(NAME, recognises, load, save)
