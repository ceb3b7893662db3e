"""Checkpoints of rosinality's stylegan2-pytorch: {g, d, g_ema, latent_avg, optimisers}, or one network's state dict.

Its networks are StyleGAN2's without labels, all in float32, and compute the same; only names and shapes differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gankern import setup_filter

from ..presets.stylegan2 import StyleGAN2Options
from ..training.atomic import write_atomically
from .checkpoint import Checkpoint, Entry, Format, Table, assemble, chosen, disassemble
from .states import State, count, is_state, mean_w, naming, only, without_constants
from .widths import channel_base_of

NAME = "rosinality"
NETWORKS = {"g": "G", "d": "D", "g_ema": "G_ema"}
GENERATOR = ("input.input", "to_rgb1.conv.weight")
DISCRIMINATOR = ("convs.0.0.weight", "final_linear.0.weight")
LAYER = {
    "weight": "conv.weight",
    "bias": "activate.bias",
    "affine.weight": "conv.modulation.weight",
    "affine.bias": "conv.modulation.bias",
    "noise_strength": "noise.weight",
}
TO_RGB = {**LAYER, "bias": "bias"}
# How a shape of theirs is read and written.
BATCH_OF_1 = (lambda x: x.squeeze(0), lambda x: x[None])  # [1, ...] and [...]
IMAGE = (lambda x: x.squeeze((0, 1)), lambda x: x[None, None])  # [1, 1, H, W] and [H, W]
PER_CHANNEL = (lambda x: x.flatten(), lambda x: x[None, :, None, None])  # [1, C, 1, 1] and [C]
SCALAR = (lambda x: x.reshape([]), lambda x: x.reshape([1]))  # [1] and []


def recognises(content: Any) -> bool:
    """Whether it is a training checkpoint, a converted generator {g_ema, latent_avg}, or a state dict."""
    return isinstance(content, dict) and bool(_states(content))


def load(content: Any, which: str | None = None) -> Checkpoint:
    """The networks of a checkpoint; the state of its training is left out."""
    states = chosen(NAME, _states(content), which)
    notes = ["labels, 16-bit layers and clamping: none, as published"]
    if any(key in content for key in ("g_optim", "d_optim", "ada_aug_p")):
        notes.append("left out: the optimisers' state and the augmentation's strength")
    sizes = {name: _sizes(state) for name, state in states.items() if name != "D"}
    if not sizes:
        sizes = {"D": _sizes_of_D(states["D"])}
        notes.append(
            "the generator's latents and mapping network, which the file lacks, are assumed to be the published"
        )
    model = _options(**only("size", sizes))
    mean = content.get("latent_avg")
    if mean is not None and not isinstance(mean, Tensor):
        raise ValueError(f"{NAME}: latent_avg must be a tensor, got {type(mean).__name__}")
    ready: dict[str, State] = {}
    for name, state in states.items():
        ready[name] = without_constants(f"{NAME}: {name}", state, _constants(name, model.img_resolution))
        if name != "D" and mean is not None:
            ready[name] = {**ready[name], "latent_avg": mean}
    has_noise = all(name == "D" or any("noises." in key for key in state) for name, state in states.items())
    if not has_noise:
        notes.append("the file is from before noise was stored: noise_mode='const' adds a noise drawn just now")
    if mean is None and set(states) != {"D"}:
        notes.append("the mean of w, which the file lacks, was computed from 10,000 latents")
    tables = {"G": generator_table(mean is not None, has_noise), "D": discriminator_table(model.img_resolution)}
    checkpoint = assemble(NAME, "stylegan2", model, ready, tables, notes)
    if mean is None:
        for G in _generators(checkpoint):
            G.mapping.w_avg.copy_(mean_w(G.mapping, model.z_dim))
    return checkpoint


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Writes {g, d, g_ema, latent_avg}, of the networks that there are.

    Clamping, which only stops values beyond 256, and 16-bit layers are not known there.

    Raises:
        ValueError: The networks have something else that is not known there: labels, another architecture, ...
    """
    _refuse(checkpoint)
    resolution = checkpoint.model.img_resolution
    content: dict[str, Any] = {}
    for theirs, ours in NETWORKS.items():
        net = getattr(checkpoint, ours)
        if net is None:
            continue
        table = discriminator_table(resolution) if ours == "D" else generator_table()
        state = disassemble(net, table) | _constants(ours, resolution)
        if ours != "D":
            content["latent_avg"] = state.pop("latent_avg")  # of g_ema, which comes last
        content[theirs] = state
    write_atomically(path, lambda file: torch.save(content, file))


def generator_table(has_mean: bool = True, has_noise: bool = True) -> Table:
    """Where the tensors of our generator are in theirs; its mean of w under the name `latent_avg`."""

    def entry(key: str) -> Entry | str | None:
        parts = key.split(".")
        if parts[0] == "mapping":
            if parts[1] == "w_avg":
                return "latent_avg" if has_mean else None
            return f"style.{int(parts[1][2:]) + 1}.{parts[2]}"
        if parts[-1] == "resample_filter":
            return None
        step, layer, leaf = int(parts[1][1:]).bit_length() - 3, parts[2], ".".join(parts[3:])
        if layer == "const":
            return Entry("input.input", *BATCH_OF_1)
        if layer == "torgb":
            prefix = f"to_rgbs.{step - 1}" if step else "to_rgb1"
            if leaf == "bias":
                return Entry(f"{prefix}.bias", *PER_CHANNEL)
            return Entry(f"{prefix}.{TO_RGB[leaf]}", *(BATCH_OF_1 if leaf == "weight" else ()))
        number = 2 * step - (layer == "conv0")  # 0 for the layer at 4x4
        prefix = f"convs.{number - 1}" if number else "conv1"
        if leaf == "noise_const":
            return Entry(f"noises.noise_{number}", *IMAGE) if has_noise else None
        if leaf == "noise_strength":
            return Entry(f"{prefix}.noise.weight", *SCALAR)
        return Entry(f"{prefix}.{LAYER[leaf]}", *(BATCH_OF_1 if leaf == "weight" else ()))

    return entry


def discriminator_table(img_resolution: int) -> Table:
    """Where the tensors of our discriminator are in theirs."""
    block = {"conv0.weight": "conv1.0.weight", "conv0.bias": "conv1.1.bias", "skip.weight": "skip.1.weight"}
    block |= {"conv1.weight": "conv2.1.weight", "conv1.bias": "conv2.2.bias"}
    ends = {"conv.weight": "final_conv.0.weight", "conv.bias": "final_conv.1.bias"}
    ends |= {f"fc.{leaf}": f"final_linear.0.{leaf}" for leaf in ("weight", "bias")}
    ends |= {f"out.{leaf}": f"final_linear.1.{leaf}" for leaf in ("weight", "bias")}
    ends |= {"fromrgb.weight": "convs.0.0.weight", "fromrgb.bias": "convs.0.1.bias"}

    def entry(key: str) -> str | None:
        place, _, leaf = key.partition(".")
        if leaf.endswith("resample_filter"):
            return None
        if leaf in ends:
            return ends[leaf]
        return f"convs.{img_resolution.bit_length() - int(place[1:]).bit_length() + 1}.{block[leaf]}"

    return entry


def _states(content: dict[str, Any]) -> dict[str, State]:
    """The state dicts in a file by our names."""
    if is_state(content, *GENERATOR):
        return {"G_ema": content}
    if is_state(content, *DISCRIMINATOR):
        return {"D": content}
    markers = {name: DISCRIMINATOR if name == "d" else GENERATOR for name in NETWORKS}
    return {ours: content[name] for name, ours in NETWORKS.items() if is_state(content.get(name), *markers[name])}


def _sizes(state: State) -> dict[str, int]:
    """What a generator's shapes say."""
    steps = count(state, "to_rgbs.")
    what = f"{NAME}: the generator"
    with naming(what):
        rgbs = [state["to_rgb1.conv.weight"], *(state[f"to_rgbs.{j}.conv.weight"] for j in range(steps))]
        base, most = channel_base_of(what, {4 << k: rgb.shape[2] for k, rgb in enumerate(rgbs)})
        w_dim, z_dim = state["style.1.weight"].shape
        sizes = {"img_resolution": 4 << steps, "img_channels": rgbs[0].shape[1], "channel_base": base}
    return sizes | {"channel_max": most, "z_dim": z_dim, "w_dim": w_dim, "map_depth": count(state, "style.") - 1}


def _sizes_of_D(state: State) -> dict[str, int]:
    """What a discriminator's shapes say, and the published numbers for the rest."""
    steps = count(state, "convs.") - 1
    what = f"{NAME}: D"
    with naming(what):
        widths = {4 << (steps - k + 1): len(state[f"convs.{k}.conv1.0.weight"]) for k in range(1, steps + 1)}
        base, most = channel_base_of(what, {4: len(state["final_conv.0.weight"]), **widths})
        img_channels = state["convs.0.0.weight"].shape[1]
    sizes = {"img_resolution": 4 << steps, "img_channels": img_channels, "channel_base": base, "channel_max": most}
    return sizes | {"z_dim": 512, "w_dim": 512, "map_depth": 8}


def _options(**sizes: Any) -> StyleGAN2Options:
    return StyleGAN2Options(
        **sizes,
        c_dim=0,
        mbstd_group_size=4,
        num_fp16_res=0,
        conv_clamp=None,
        precision="fp32",
        d_architecture="resnet",
        channels_last=False,
    )


def _constants(name: str, img_resolution: int) -> dict[str, Tensor]:
    """The filters that their state dicts hold: after upsampling with the gain of that, 4."""
    f = setup_filter((1, 3, 3, 1))
    steps = range(img_resolution.bit_length() - 3)
    if name == "D":
        return {f"convs.{k + 1}.{layer}.0.kernel": f for k in steps for layer in ("conv2", "skip")}
    return {f"{name}.kernel": 4 * f for k in steps for name in (f"convs.{2 * k}.conv.blur", f"to_rgbs.{k}.upsample")}


def _generators(checkpoint: Checkpoint) -> list[Any]:
    return [net for net in (checkpoint.G, checkpoint.G_ema) if net is not None]


def _refuse(checkpoint: Checkpoint) -> None:
    model: Any = checkpoint.model
    if checkpoint.family != "stylegan2":
        raise ValueError(f"{NAME} knows StyleGAN2 alone, got {checkpoint.family}")
    if model.c_dim or model.d_architecture != "resnet":
        got = f"{model.c_dim} labels and architecture {model.d_architecture!r}"
        raise ValueError(f"{NAME} knows no labels and only the architecture 'resnet', got {got}")
    if model.z_dim != model.w_dim or model.img_channels != 3:
        got = f"{model.z_dim}, {model.w_dim} and {model.img_channels} channels"
        raise ValueError(f"{NAME} knows only z and w of one width and images of 3 channels, got {got}")
    if checkpoint.D is not None and model.mbstd_group_size != 4:
        raise ValueError(f"{NAME} knows only discriminators with mbstd_group_size 4, got {model.mbstd_group_size}")


ROSINALITY = Format(NAME, recognises, load, save)
