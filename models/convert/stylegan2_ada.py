"""StyleGAN2 as NVIDIA's PyTorch code keeps it: pickles with G, D and G_ema, and bare state dicts.

Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020. The tensors have our names. A pickle
holds the source of its classes too, which is not looked at; the networks' arguments are read from it instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..presets.stylegan2 import StyleGAN2Options
from ..training.atomic import write_atomically
from .checkpoint import NETWORKS, Checkpoint, Format, assemble, chosen, disassemble
from .reading import PERSISTENT
from .restricted_pickle import Stub
from .widths import channel_base_of

NAME = "stylegan2-ada"
MAX_TENSORS = 10_000  # of one network; a published one has about two hundred

# Arguments of the published classes that say nothing of what a trained network computes, or that the shapes say.
NEUTRAL = {
    *("c_dim", "img_resolution", "img_channels", "z_dim", "w_dim", "channel_base", "channel_max", "num_layers"),
    *("fused_modconv_default", "w_avg_beta", "freeze_layers", "use_fp16", "fp16_channels_last", "num_ws"),
    *("mapping_kwargs", "synthesis_kwargs", "block_kwargs", "epilogue_kwargs", "class_name", "embed_features"),
    *("layer_features", "cmap_dim"),
}
OURS = {"num_fp16_res", "conv_clamp", "mbstd_group_size"}  # arguments that shapes do not say
FIXED: dict[str, Any] = {  # arguments that have one value here
    "activation": "lrelu",
    "lr_multiplier": 0.01,
    "resample_filter": [1, 3, 3, 1],
    "use_noise": True,
    "mbstd_num_channels": 1,
}
ARCHITECTURES = {"G": ("skip",), "D": ("skip", "resnet", "orig")}


def _recognises(content: Any) -> bool:
    return bool(_states(content))


def _states(content: Any) -> dict[str, Any]:
    """What there is of each network: a pickled module, or a state dict."""
    if not isinstance(content, dict):
        return {}
    if "synthesis.b4.const" in content or "b4.out.weight" in content:
        return {"G_ema" if "synthesis.b4.const" in content else "D": content}
    found = {name: content[name] for name in NETWORKS if content.get(name) is not None}
    return found if any(_is_module(value) or _is_state(value) for value in found.values()) else {}


def _is_module(value: Any) -> bool:
    return isinstance(value, Stub) and value.name == PERSISTENT and bool(value.args) and isinstance(value.args[0], dict)


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and ("synthesis.b4.const" in value or "b4.out.weight" in value)


def _load(content: Any, which: str | None) -> Checkpoint:
    found = _states(content)
    notes = []
    states = {name: value if isinstance(value, dict) else state_dict(value) for name, value in found.items()}
    arguments = {name: _arguments(name, value) for name, value in found.items() if _is_module(value)}
    model = infer_options(NAME, states, arguments)
    if set(arguments) != set(found):
        notes.append("a state dict does not say num_fp16_res, conv_clamp and mbstd_group_size: taken as 0, none and 4")
    tables = {"G": _same_key, "D": _same_key}
    return assemble(NAME, "stylegan2", model, chosen(NAME, states, which), tables, notes)


def _same_key(key: str) -> str:
    return key


def state_dict(module: Stub) -> dict[str, Tensor]:
    """The parameters and buffers of a pickled module and of all below it.

    Raises:
        ValueError: It is no module, or has more parts than any network.
    """
    found: dict[str, Tensor] = {}
    visits = 0
    todo: list[tuple[str, Any]] = [("", module)]
    while todo:
        prefix, one = todo.pop()
        visits += 1
        if visits > MAX_TENSORS or len(found) > MAX_TENSORS or len(prefix) > 200:
            raise ValueError(f"{NAME}: a network has more than {MAX_TENSORS} parts")
        state = one.args[0].get("state") if _is_module(one) else None
        if not isinstance(state, dict):
            raise ValueError(f"{NAME}: {prefix or 'the network'} is no module of the published code")
        passing = state.get("_non_persistent_buffers_set", [])
        for group in ("_parameters", "_buffers"):
            for name, value in _dictionary(state.get(group)).items():
                if value is not None and name not in passing:
                    found[f"{prefix}{name}"] = value
        children = _dictionary(state.get("_modules")).items()
        todo += [(f"{prefix}{name}.", child) for name, child in children if child is not None]
    wrong = [key for key, value in found.items() if not isinstance(value, Tensor)]
    if wrong:
        raise ValueError(f"{NAME}: {wrong[0][:80]} is no tensor")
    return found


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _arguments(name: str, module: Stub) -> dict[str, Any]:
    """What a pickled network was made with, flat; refuses what changes its result in a way that ours cannot."""
    state = _dictionary(module.args[0].get("state"))
    given: dict[str, Any] = {}
    todo = [_dictionary(state.get("_init_kwargs"))]
    for kwargs in todo:
        for key, value in kwargs.items():
            if key in ("mapping_kwargs", "synthesis_kwargs", "block_kwargs", "epilogue_kwargs") and len(todo) < 8:
                todo.append(_dictionary(value))
            given[key] = value
    if state.get("_init_args"):
        raise ValueError(f"{NAME}: {name} was made with unnamed arguments, which say nothing")
    for key, value in given.items():
        if key == "architecture":
            if value not in ARCHITECTURES[name[0]]:
                raise ValueError(f"{NAME}: {name}'s architecture must be {ARCHITECTURES[name[0]]}, got {value!r}")
        elif key in FIXED:
            if (list(value) if isinstance(value, tuple) else value) != FIXED[key]:
                raise ValueError(f"{NAME}: {name}'s {key} must be {FIXED[key]}, got {str(value)[:80]}")
        elif key not in NEUTRAL | OURS:
            raise ValueError(f"{NAME}: {name} has the argument {key[:80]!r}, which is unknown here")
    return {key: given[key] for key in OURS if key in given}


def infer_options(
    source: str, states: Mapping[str, Mapping[str, Tensor]], arguments: Mapping[str, Mapping[str, Any]]
) -> StyleGAN2Options:
    """The options that give networks of these shapes.

    Args:
        source: For errors.
        states: By `NETWORKS`, tensors under our keys.
        arguments: By `NETWORKS`, of OURS what is known beside the shapes.

    Raises:
        ValueError: There are none: widths that no channel_base gives, or G and D do not fit together.
    """
    found = [_shapes(f"{source}: {name}", name, state) for name, state in states.items()]
    found += [dict(given) for given in arguments.values()]
    merged: dict[str, Any] = {}
    for one in found:
        for key, value in one.items():
            if merged.setdefault(key, value) != value:
                raise ValueError(f"{source}: the networks differ in {key}: {merged[key]} and {value}")
    num_fp16_res = merged.get("num_fp16_res", 0)
    return StyleGAN2Options(
        img_resolution=merged["img_resolution"],
        img_channels=merged["img_channels"],
        c_dim=merged["c_dim"],
        z_dim=merged.get("z_dim", 512),
        w_dim=merged.get("w_dim", 512),
        map_depth=merged.get("map_depth", 8),
        channel_base=merged["channel_base"],
        channel_max=merged["channel_max"],
        mbstd_group_size=merged.get("mbstd_group_size", 4),
        num_fp16_res=num_fp16_res,
        conv_clamp=merged.get("conv_clamp"),
        precision="fp16" if num_fp16_res else "fp32",
        d_architecture=merged.get("d_architecture", "resnet"),
        channels_last=False,
    )


def _shapes(what: str, name: str, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options that one network's tensors tell."""
    try:
        return _shapes_of_g(what, state) if name[0] == "G" else _shapes_of_d(what, state)
    except (KeyError, IndexError) as error:
        raise ValueError(f"{what} lacks {error}") from error


def _shapes_of_g(what: str, state: Mapping[str, Tensor]) -> dict[str, Any]:
    if "synthesis.input.freqs" in state:
        raise ValueError(f"{what} is a StyleGAN3, which is not among the families here")
    if "synthesis.b8.skip.weight" in state:
        raise ValueError(f"{what} has the architecture 'resnet', expected 'skip'")
    conv = "synthesis.b{}.conv1.bias"
    widths = {res: len(state[conv.format(res)]) for res in _resolutions(state, conv)}
    base, most = channel_base_of(what, widths)
    embed = state.get("mapping.embed.weight")  # [features, c_dim]
    return {
        "img_resolution": max(widths),
        "img_channels": len(state[f"synthesis.b{max(widths)}.torgb.bias"]),
        "c_dim": 0 if embed is None else embed.shape[1],
        "z_dim": state["mapping.fc0.weight"].shape[1] - (0 if embed is None else embed.shape[0]),
        "w_dim": state["synthesis.b4.conv1.affine.weight"].shape[1],
        "map_depth": sum(key.startswith("mapping.fc") and key.endswith(".weight") for key in state),
        "channel_base": base,
        "channel_max": most,
    }


def _shapes_of_d(what: str, state: Mapping[str, Tensor]) -> dict[str, Any]:
    conv = "b{}.conv0.bias"
    widths = {res: len(state[conv.format(res)]) for res in _resolutions(state, conv)}
    widths[4] = len(state["b4.conv.bias"])
    base, most = channel_base_of(what, widths)
    last = max(widths)
    embed = state.get("mapping.embed.weight")
    is_skip = "b4.fromrgb.weight" in state and last > 4
    return {
        "img_resolution": last,
        "img_channels": state[f"b{last}.fromrgb.weight"].shape[1],
        "c_dim": 0 if embed is None else embed.shape[1],
        "channel_base": base,
        "channel_max": most,
        "d_architecture": "skip" if is_skip else "resnet" if f"b{last}.skip.weight" in state else "orig",
    }


def _resolutions(state: Mapping[str, Tensor], key: str) -> list[int]:
    return [2**i for i in range(2, 16) if key.format(2**i) in state]


def _save(checkpoint: Checkpoint, path: Path) -> None:
    """{"G", "D", "G_ema"}: state dicts for the published classes' load_state_dict."""
    if checkpoint.family != "stylegan2":
        raise ValueError(f"{NAME} holds stylegan2, got {checkpoint.family}")
    states = {name: disassemble(net, _same_key) for name, net in checkpoint.networks().items()}
    write_atomically(path, lambda file: torch.save(states, file))


STYLEGAN2_ADA = Format(NAME, _recognises, _load, _save)
