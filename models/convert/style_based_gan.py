"""Checkpoints of rosinality's style-based-gan-pytorch: {generator, discriminator, g_running}, or one state dict.

Its StyleGAN differs from the published one. He's factor is in every layer, those of the image, the styles and the noise
too: that is multiplied into the weights here, up to their rounding. The rest is `variant` in
`gankern.models.stylegan.SynthesisNetwork` and `wide` in its `Discriminator`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..presets.stylegan import StyleGANOptions
from ..training.atomic import write_atomically
from .checkpoint import Checkpoint, Entry, Format, Table, assemble, chosen, disassemble
from .states import State, count, is_state, mean_w, naming, only, without_constants
from .widths import channel_base_of

NAME = "style-based-gan-pytorch"
NETWORKS = {"generator": "G", "discriminator": "D", "g_running": "G_ema"}
GENERATOR = ("generator.progression.0.conv1.input", "style.1.linear.weight_orig")
DISCRIMINATOR = ("linear.linear.weight_orig", "progression.0.conv1.0.conv.weight_orig")
SHARED = ("img_resolution", "img_channels", "channel_base", "channel_max")  # options of G and D
LATENTS = {"z_dim": 512, "w_dim": 512, "map_depth": 8}  # as published
FUSED = 128  # from this resolution on, resampling and convolution are one layer


def recognises(content: Any) -> bool:
    """Whether it is a training checkpoint, or a generator's or discriminator's state dict."""
    return isinstance(content, dict) and bool(_states(content))


def load(content: Any, which: str | None = None) -> Checkpoint:
    """The networks of a checkpoint, grown to the last resolution that was trained; all resolutions are kept."""
    states = chosen(NAME, _states(content), which)
    notes = [f"variant {NAME!r} of the networks, which computes what that code computes"]
    if "g_optimizer" in content:
        notes.append("left out: the optimisers' state")
    sizes = {name: _sizes_of_D(state) if name == "D" else _sizes(state) for name, state in states.items()}
    known = only("size", {name: {k: v for k, v in size.items() if k in SHARED} for name, size in sizes.items()})
    wide = sizes["D"]["d_wide"] if "D" in sizes else True
    of_G: dict[str, int] = only("mapping network", {n: s for n, s in sizes.items() if n != "D"} or {"G": LATENTS})
    model = _options(**{**LATENTS, **of_G, **known, "d_wide": wide})
    constants = {"G": _blurs_of_G, "D": _blurs_of_D}
    ready = {
        name: without_constants(f"{NAME}: {name}", state, constants[name[0]](model)) for name, state in states.items()
    }
    checkpoint = assemble(NAME, "stylegan", model, ready, {"G": _table_of_G(model), "D": _table_of_D(model)}, notes)
    for name, net in checkpoint.networks().items():
        resolution = _last_trained(net)
        net.grow(resolution, False)  # type: ignore[operator]
        if resolution < model.img_resolution:
            checkpoint.notes.append(f"{name} was trained up to {resolution}x{resolution}, and is for such images")
        if name != "D":
            net.mapping.w_avg.copy_(mean_w(net.mapping, model.z_dim))  # type: ignore[union-attr, operator, arg-type]
    if set(states) != {"D"}:
        checkpoint.notes.append("the mean of w, which these files lack, was computed from 10,000 latents")
    return checkpoint


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Writes {generator, discriminator, g_running}, of the networks that there are.

    Raises:
        ValueError: They are not of the variant that computes what style-based-gan-pytorch computes.
    """
    model: Any = checkpoint.model
    if checkpoint.family != "stylegan" or model.variant != NAME:
        got = checkpoint.family + (f" of variant {model.variant!r}" if checkpoint.family == "stylegan" else "")
        raise ValueError(f"{NAME} knows only stylegan of variant {NAME!r}, got {got}")
    if model.c_dim or model.mbstd_group_size is not None:
        got = f"{model.c_dim} labels and mbstd_group_size {model.mbstd_group_size}"
        raise ValueError(f"{NAME} knows no labels, and only mbstd_group_size None, got {got}")
    content = {}
    for theirs, ours in NETWORKS.items():
        net = getattr(checkpoint, ours)
        if net is not None:
            table, blurs = (_table_of_D, _blurs_of_D) if ours == "D" else (_table_of_G, _blurs_of_G)
            content[theirs] = disassemble(net, table(model)) | blurs(model)
    write_atomically(path, lambda file: torch.save(content, file))


def _table_of_G(model: StyleGANOptions) -> Table:
    def entry(key: str) -> Entry | str | None:
        parts = key.split(".")
        if parts[-1] in ("resample_filter", "alpha", "w_avg", "noise_const"):
            return None
        if parts[0] == "mapping":  # our multiplier of the learning rate divides the stored numbers
            return _scaled(f"style.{2 * int(parts[1][2:]) + 1}.linear.{_orig(parts[2])}", 100)
        resolution, layer, leaf = int(parts[1][1:]), parts[2], parts[-1]
        place = f"generator.progression.{_step(resolution)}"
        if layer == "const":
            return Entry(f"{place}.conv1.input", lambda x: x.squeeze(0), lambda x: x[None])
        if layer == "torgb":
            return _scaled(f"generator.to_rgb.{_step(resolution)}.conv.{_orig(leaf)}", _he(leaf))
        if layer == "conv0":
            if resolution < FUSED:
                return f"{place}.conv1.1.conv.{_orig(leaf)}"
            return _up_convolution(f"{place}.conv1.0.weight") if leaf == "weight" else f"{place}.conv1.0.bias"
        if layer == "conv1":
            return f"{place}.conv2.conv.weight_orig"
        number = int(layer[-1]) + 1  # of the epilogue
        if parts[3] == "affine":
            return _style(f"{place}.adain{number}.style.linear", leaf)
        if leaf == "noise_strength":
            factor = math.sqrt(2 / _width(model, resolution))
            read, write = (lambda x: x.flatten() * factor), (lambda x: x[None, :, None, None] / factor)
            return Entry(f"{place}.noise{number}.weight_orig", read, write)
        return f"{place}.conv2.conv.bias"

    return entry


def _table_of_D(model: StyleGANOptions) -> Table:
    def entry(key: str) -> Entry | str | None:
        block, layer, leaf = (*key.split("."), "", "")[:3]
        if leaf == "resample_filter" or layer == "" or key == "alpha":
            return None
        resolution = int(block[1:])
        number = _step(model.img_resolution) - _step(resolution)
        place = f"progression.{number}"
        if layer == "fromrgb":
            return f"from_rgb.{number}.0.conv.{_orig(leaf)}"
        if layer == "out":
            return _scaled(f"linear.linear.{_orig(leaf)}", _he(leaf))
        if layer == "fc":  # a convolution with a kernel of the size of its input
            if leaf == "bias":
                return f"{place}.conv2.0.conv.bias"
            return Entry(
                f"{place}.conv2.0.conv.weight_orig", lambda x: x.flatten(1), lambda x: x.unflatten(1, (-1, 4, 4))
            )
        if layer in ("conv", "conv0"):
            return f"{place}.conv1.0.conv.{_orig(leaf)}"
        return f"{place}.conv2.1.{leaf}" if resolution >= FUSED else f"{place}.conv2.1.conv.{_orig(leaf)}"

    return entry


def _blurs_of_G(model: StyleGANOptions) -> dict[str, Tensor]:
    resolutions = [8 << k for k in range(_step(model.img_resolution))]
    places = {r: f"generator.progression.{_step(r)}.conv1.{1 if r >= FUSED else 2}" for r in resolutions}
    return _blurs({place: _width(model, r) for r, place in places.items()})


def _blurs_of_D(model: StyleGANOptions) -> dict[str, Tensor]:
    last = _step(model.img_resolution)
    resolutions = [8 << k for k in range(last)]
    return _blurs(
        {f"progression.{last - _step(r)}.conv2.0": _width(model, r // 2 if model.d_wide else r) for r in resolutions}
    )


def _blurs(places: dict[str, int]) -> dict[str, Tensor]:
    """The filter of a blur, for every channel, and the same turned over, which is the same."""
    taps = torch.tensor([1.0, 2.0, 1.0]) / 4
    f = (taps[:, None] * taps)[None, None]  # [1, 1, 3, 3]
    leaves = ("weight", "weight_flip")
    return {f"{place}.{leaf}": f.repeat(channels, 1, 1, 1) for place, channels in places.items() for leaf in leaves}


def _scaled(key: str, factor: float) -> Entry:
    return Entry(key, lambda x: x * factor, lambda x: x / factor)


def _he(leaf: str) -> float:
    """What a layer whose gain here is 1 lacks of He's factor; biases have none."""
    return math.sqrt(2) if leaf == "weight" else 1


def _style(place: str, leaf: str) -> Entry:
    """The scale that ours adds to 1 is here the whole one."""
    if leaf == "weight":
        return _scaled(f"{place}.weight_orig", math.sqrt(2))
    return Entry(f"{place}.bias", lambda x: x - _ones_and_zeros(x), lambda x: x + _ones_and_zeros(x))


def _ones_and_zeros(bias: Tensor) -> Tensor:
    """What a style's bias [2 * C] begins with there: 1 for the scales, 0 for the shifts."""
    return (torch.arange(len(bias)) < len(bias) // 2).to(bias.dtype)


def _up_convolution(key: str) -> Entry:
    """A transposed convolution's kernel [I, O, 3, 3]; its four shifts are averaged there and summed here."""
    return Entry(key, lambda x: x.transpose(0, 1) / 4, lambda x: x.transpose(0, 1) * 4)


def _orig(leaf: str) -> str:
    return "weight_orig" if leaf == "weight" else leaf


def _step(resolution: int) -> int:
    """0 at 4x4, 1 at 8x8, ..."""
    return resolution.bit_length() - 3


def _width(model: StyleGANOptions, resolution: int) -> int:
    return min(model.channel_base // resolution, model.channel_max)


def _states(content: dict[str, Any]) -> dict[str, State]:
    """The state dicts in a file by our names."""
    if is_state(content, *GENERATOR):
        return {"G_ema": content}
    if is_state(content, *DISCRIMINATOR):
        return {"D": content}
    markers = {name: DISCRIMINATOR if ours == "D" else GENERATOR for name, ours in NETWORKS.items()}
    return {ours: content[name] for name, ours in NETWORKS.items() if is_state(content.get(name), *markers[name])}


def _sizes(state: State) -> dict[str, int]:
    """What a generator's shapes say."""
    what, steps = f"{NAME}: the generator", count(state, "generator.progression.")
    with naming(what):
        rgbs = [state[f"generator.to_rgb.{i}.conv.weight_orig"] for i in range(steps)]
        base, most = channel_base_of(what, {4 << i: rgb.shape[1] for i, rgb in enumerate(rgbs)})
        w_dim, z_dim = state["style.1.linear.weight_orig"].shape
        sizes = {"img_resolution": 2 << steps, "img_channels": len(rgbs[0]), "channel_base": base, "channel_max": most}
    return sizes | {"z_dim": z_dim, "w_dim": w_dim, "map_depth": count(state, "style.") // 2}


def _sizes_of_D(state: State) -> dict[str, int]:
    """What a discriminator's shapes say."""
    what, steps = f"{NAME}: D", count(state, "progression.")
    if "from_rgb.0.conv.weight_orig" in state:
        raise ValueError(
            f"{what} has no activation after from_rgb, as before August 2019; only its generator can be read"
        )
    with naming(what):
        rgbs = [state[f"from_rgb.{i}.0.conv.weight_orig"] for i in range(steps)]
        base, most = channel_base_of(what, {4 << (steps - 1 - i): len(rgb) for i, rgb in enumerate(rgbs)})
        hidden = [len(state[f"progression.{i}.conv1.0.conv.weight_orig"]) for i in range(steps - 1)]
    sizes = {"img_resolution": 2 << steps, "img_channels": rgbs[0].shape[1], "channel_base": base, "channel_max": most}
    return sizes | {"d_wide": hidden == [len(rgb) for rgb in rgbs[1:]]}


def _options(**sizes: Any) -> StyleGANOptions:
    return StyleGANOptions(
        **sizes,
        c_dim=0,
        mbstd_group_size=None,
        num_fp16_res=0,
        precision="fp32",
        channels_last=False,
        variant=NAME,
    )


def _last_trained(net: Any) -> int:
    """The highest resolution whose biases or noise have left the zeros that they began with; the last, if none has."""
    blocks = getattr(net, "synthesis", net)
    for resolution in blocks.block_resolutions[::-1]:
        block = blocks.block(resolution)
        parameters = [p for name, p in block.named_parameters() if name.endswith(("noise_strength", "bias"))]
        if any(p.any() for p in parameters):
            return resolution
    return blocks.block_resolutions[-1]


STYLE_BASED_GAN = Format(NAME, recognises, load, save)
