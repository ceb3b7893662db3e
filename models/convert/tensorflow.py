"""ProGAN, StyleGAN and StyleGAN2 as NVIDIA's TensorFlow code keeps them: pickles of (G, D, Gs).

Karras et al., 2018, 2019 and 2020, see `gankern.models.progan`, `stylegan` and `stylegan2`. A network's pickle has its
variables as NumPy arrays under the names of TensorFlow's graph, those of its parts in pickles of their own. Kernels are
[k, k, I, O] and matrices [I, O]; which are turned by 180 degrees is said at each table. No TensorFlow is needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from .checkpoint import Checkpoint, Format, Table, assemble, chosen
from .numpy_pickle import Array
from .reading import TENSORFLOW_NETWORKS
from .restricted_pickle import Stub
from .tensorflow_tables import FAMILY_TABLES, options_of

NAME = "tensorflow"
ORDER = ("G", "D", "G_ema")  # of the networks in the file
MAX_VARIABLES = 10_000

# Arguments that have one value here; the published configurations leave most of them out.
FIXED: dict[str, Any] = {
    "use_wscale": True,
    "use_noise": True,
    "use_styles": True,
    "use_pixel_norm": False,
    "use_instance_norm": True,
    "use_pixelnorm": True,
    "use_leakyrelu": True,
    "tanh_at_end": None,
    "normalize_latents": True,
    "fmap_decay": 1.0,
    "nonlinearity": "lrelu",
    "mapping_nonlinearity": "lrelu",
    "mapping_lrmul": 0.01,
    "const_input_layer": True,
    "blur_filter": [1, 2, 1],
    "resample_kernel": [1, 3, 3, 1],
    "fused_modconv": True,
    "mbstd_num_features": 1,
    "fmap_min": 1,
}


class Network(NamedTuple):
    """A network of the file: its tensors by name, its arguments, and its level of detail."""

    state: dict[str, Tensor]
    arguments: dict[str, Any]
    lod: float  # 0 when fully grown, log2(final / current resolution) before; in between while fading


def _recognises(content: Any) -> bool:
    parts = content if isinstance(content, tuple | list) else [content]
    return 1 <= len(parts) <= len(ORDER) and all(_is_network(part) for part in parts)


def _is_network(value: Any) -> bool:
    return isinstance(value, Stub) and value.name in TENSORFLOW_NETWORKS and isinstance(value.state, dict)


def _load(content: Any, which: str | None) -> Checkpoint:
    parts = content if isinstance(content, tuple | list) else [content]
    named = dict(zip(ORDER, parts)) if len(parts) > 1 else {_name_of(parts[0]): parts[0]}
    networks = {name: _network(name, value) for name, value in named.items()}
    family = _family_of(networks)
    model, fused = options_of(family, {name: (net.state, net.arguments) for name, net in networks.items()})
    make = FAMILY_TABLES[family]
    tables: dict[str, Table] = {part: make[part](model, fused) for part in ("G", "D")}
    states = chosen(NAME, {name: net.state for name, net in networks.items()}, which)
    checkpoint = assemble(f"{NAME} {family}", family, model, states, tables)
    checkpoint.source = NAME
    for name, net in checkpoint.networks().items():
        _grow(net, networks["G_ema" if name not in networks else name].lod)
    return checkpoint


def _name_of(value: Stub) -> str:
    """A lone network is the average G or, if it takes images, D."""
    state, _ = _variables(value)
    return "D" if any("FromRGB" in key for key in state) else "G_ema"


def _network(name: str, value: Stub) -> Network:
    state, numbers = _variables(value)
    arguments = _arguments(name, value)
    for key, expected in FIXED.items():
        got = arguments.get(key, expected)
        got = list(got) if isinstance(got, tuple) else got
        if got != expected and not (expected is None and got is False):
            raise ValueError(f"{NAME}: {name}'s {key} must be {expected}, got {str(got)[:80]}")
    return Network(state, arguments, max([0.0, *numbers]))


def _arguments(name: str, network: Stub) -> dict[str, Any]:
    """What a network and its parts were made with."""
    own = network.state.get("static_kwargs")
    parts = network.state.get("components") or {}
    if not isinstance(own, dict) or not isinstance(parts, dict) or not all(map(_is_network, parts.values())):
        raise ValueError(f"{NAME}: {name} has no static_kwargs, or parts that are no networks")
    of_parts = [part.state.get("static_kwargs") or {} for part in parts.values()]
    return {key: value for one in [*of_parts, own] for key, value in one.items()}


def _variables(network: Stub) -> tuple[dict[str, Tensor], list[float]]:
    """The tensors of a network and its parts, and its values of `lod`."""
    state: dict[str, Tensor] = {}
    lods: list[float] = []
    todo: list[tuple[str, Any]] = [("", network)]
    while todo:
        prefix, one = todo.pop()
        variables = one.state.get("variables") if _is_network(one) else None
        if not isinstance(variables, list) or len(prefix) > 200 or len(state) > MAX_VARIABLES:
            raise ValueError(f"{NAME}: {prefix or 'the network'} is no network of the published code")
        for pair in variables:
            if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str):
                raise ValueError(f"{NAME}: {prefix or 'the network'} has a variable without a name")
            key, value = f"{prefix}{pair[0]}", pair[1]
            tensor = value.tensor() if isinstance(value, Array) else value
            if key.rpartition("/")[2] == "lod":
                lods.append(float(tensor))
            elif isinstance(tensor, float | int):
                state[key] = Tensor([tensor]).reshape([])
            elif isinstance(tensor, Tensor):
                state[key] = tensor
            else:
                raise ValueError(f"{NAME}: {key[:80]} is no array")
        parts = one.state.get("components") or {}
        todo += [(f"{prefix}{key}/", part) for key, part in parts.items()]
    return state, lods


def _family_of(networks: Mapping[str, Network]) -> str:
    keys = {key for net in networks.values() for key in net.state}
    if any(key.endswith("mod_weight") for key in keys) or "Output/weight" in keys:
        return "stylegan2"
    if any("StyleMod" in key for key in keys):
        return "stylegan"
    if "4x4/Dense/weight" in keys:
        return "progan"
    raise ValueError(f"{NAME}: a discriminator alone, of ProGAN or of StyleGAN: its file needs the generator, too")


def _grow(net: Any, lod: float) -> None:
    """Brings a network that grows to where training left it."""
    if lod == 0 or not hasattr(net, "grow"):
        return
    if not 0 <= lod <= math.log2(net.img_resolution / 4):
        raise ValueError(f"{NAME}: lod must be 0 to {math.log2(net.img_resolution / 4):g}, got {lod}")
    fading = lod % 1 > 0
    net.grow(net.img_resolution >> math.floor(lod), fading)
    net.alpha.fill_(1 - lod % 1)


TENSORFLOW = Format(NAME, _recognises, _load)
