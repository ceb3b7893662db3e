"""ProGAN as pytorch_GAN_zoo keeps it: {config, netG, netD, avgG}.

There He's factor multiplies the biases too, and its gain is sqrt(2) in every layer: both are multiplied into our
parameters. What else differs is in the options: a bias for each unit of the first layer, sizes halved after the
activation, and standard deviations of neighbours in the batch, unbiased.
"""

from __future__ import annotations

import math
from typing import Any

from ..presets.progan import ProGANOptions
from .checkpoint import Checkpoint, Entry, Format, Table, assemble, chosen
from .restricted_pickle import Stub
from .states import State, count, is_state, naming, only
from .widths import channel_base_of

NAME = "pytorch_GAN_zoo"
NETWORKS = {"netG": "G", "netD": "D", "avgG": "G_ema"}
LAYERS = ("formatLayer", "decisionLayer", "groupScale0", "groupScaleZero")
# What the networks were made with, where a file tells, and the one value that each has here.
FIXED = {
    "perChannelNormalization": True,
    "leakyReluLeak": 0.2,
}


def recognises(content: Any) -> bool:
    """Whether it is a checkpoint of the zoo's ProGAN."""
    return isinstance(content, dict) and bool(_states(content))


def load(content: Any, which: str | None = None) -> Checkpoint:
    """The networks of a checkpoint, at the resolution that they had grown to."""
    _refuse_config(content.get("config"))
    states = chosen(NAME, _states(content), which)
    sizes = {name: _sizes_of_D(state) if name == "D" else _sizes(state) for name, state in states.items()}
    z_dim = only("z_dim", {n: s.pop("z_dim") for n, s in sizes.items() if n != "D"} or {"D": 512})
    model = ProGANOptions(
        **only("size", sizes),
        z_dim=z_dim,
        c_dim=0,
        mbstd_group_size=4,
        fused_scale=False,
        num_fp16_res=0,
        precision="fp32",
        channels_last=False,
        unit_bias=True,
        mbstd_grouping="contiguous",
        mbstd_unbiased=True,
    )
    notes = ["fully grown: the file does not tell how far its newest resolution had faded in"]
    if set(states) == {"D"}:
        notes.append("the file has no generator: its latents are taken to be the published ones")
    tables = {name[0]: (_table_of_D if name == "D" else _table_of_G)(state) for name, state in states.items()}
    return assemble(NAME, "progan", model, states, tables, notes)


def _table_of_G(state: State) -> Table:
    def entry(key: str) -> Entry | str | None:
        block, layer, leaf = (*key.split("."), "", "")[:3]
        if leaf == "resample_filter" or key == "alpha":
            return None
        step = int(block[1:]).bit_length() - 3
        if key == "b4.bias":
            bias = _scaled(state, "formatLayer", "bias")
            return Entry(bias.key, lambda x: bias.read(x).unflatten(0, (-1, 4, 4)))
        if layer == "fc":
            return _scaled(state, "formatLayer", leaf, gain=4)
        if layer == "torgb":
            return _scaled(state, f"toRGBLayers.{step}", leaf, gain=math.sqrt(2))
        place = f"scaleLayers.{step - 1}.{int(layer == 'conv1')}" if step else "groupScale0.0"
        return _scaled(state, place, leaf, flip=layer == "conv0")

    return entry


def _table_of_D(state: State) -> Table:
    places = {"conv": "groupScaleZero.0", "fc": "groupScaleZero.1", "out": "decisionLayer"}

    def entry(key: str) -> Entry | str | None:
        block, layer, leaf = (*key.split("."), "", "")[:3]
        if leaf == "resample_filter" or key == "alpha":
            return None
        step = int(block[1:]).bit_length() - 3
        place = places.get(layer) or f"scaleLayers.{step - 1}.{int(layer == 'conv1')}"
        place = f"fromRGBLayers.{step}" if layer == "fromrgb" else place
        return _scaled(state, place, leaf, gain=math.sqrt(2) if layer == "out" else 1)

    return entry


def _scaled(state: State, layer: str, leaf: str, gain: float = 1, flip: bool = False) -> Entry:
    """A layer's weight times `gain`, the ratio of the gains there and here, or its bias times He's factor there."""
    name = f"{layer}{_infix(state)}"
    if leaf == "weight":
        return Entry(f"{name}.weight", lambda x: (x.flip([2, 3]) if flip else x) * gain)
    return Entry(f"{name}.bias", lambda x: x * math.sqrt(2 / state[f"{name}.weight"][0].numel()))


def _infix(state: State) -> str:
    """What stands between a layer and its tensors; nothing in older files."""
    return ".module" if any(".module." in key for key in state) else ""


def _states(content: dict[str, Any]) -> dict[str, State]:
    """The state dicts in a file by our names, from the network itself or from one for several devices."""
    found: dict[str, State] = {}
    for theirs, ours in NETWORKS.items():
        state = content.get(theirs)
        if isinstance(state, dict) and all(isinstance(key, str) for key in state):
            state = {key.removeprefix("module."): value for key, value in state.items()}
            if is_state(
                state, *(f"{layer}{k}{m}.weight" for layer in LAYERS for k in ("", ".0") for m in ("", ".module"))
            ):
                found[ours] = state
    return found


def _sizes(state: State) -> dict[str, int]:
    """What a generator's shapes say."""
    what, m = f"{NAME}: the generator", _infix(state)
    with naming(what):
        rgbs = [state[f"toRGBLayers.{k}{m}.weight"] for k in range(count(state, "toRGBLayers."))]
        base, most = channel_base_of(what, {4 << k: rgb.shape[1] for k, rgb in enumerate(rgbs)})
        z_dim = state[f"formatLayer{m}.weight"].shape[1]
        sizes = {"img_resolution": 2 << len(rgbs), "img_channels": len(rgbs[0]), "z_dim": z_dim}
    return sizes | {"fmap_base": base // 2, "fmap_max": most}


def _sizes_of_D(state: State) -> dict[str, int]:
    """What a discriminator's shapes say."""
    what, m = f"{NAME}: D", _infix(state)
    with naming(what):
        rgbs = [state[f"fromRGBLayers.{k}{m}.weight"] for k in range(count(state, "fromRGBLayers."))]
        base, most = channel_base_of(what, {4 << k: len(rgb) for k, rgb in enumerate(rgbs)})
        sizes = {"img_resolution": 2 << len(rgbs), "img_channels": rgbs[0].shape[1]}
        outputs = len(state[f"decisionLayer{m}.weight"])
    if outputs != 1:
        raise ValueError(f"{what} has {outputs} outputs, expected 1: conditional networks cannot be read")
    return sizes | {"fmap_base": base // 2, "fmap_max": most}


def _refuse_config(config: Any) -> None:
    """Refuses what a file's configuration says that shapes do not, where it is not as published."""
    options = config.state if isinstance(config, Stub) else config
    for key, expected in FIXED.items() if isinstance(options, dict) else ():
        if key in options and options[key] != expected:
            raise ValueError(f"{NAME}: {key} must be {expected}, got {str(options[key])[:80]}")


GAN_ZOO = Format(NAME, recognises, load)
