"""Where each tensor of the three families is in TensorFlow's variables, and which options give their shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ..config import ModelOptions
from ..presets.progan import ProGANOptions
from ..presets.stylegan import StyleGANOptions
from ..presets.stylegan2 import StyleGAN2Options
from .checkpoint import Entry, Table
from .widths import channel_base_of

Networks = Mapping[str, tuple[Mapping[str, Tensor], Mapping[str, Any]]]  # variables and arguments by NETWORKS
NAME = "tensorflow"
G_SKIPS, D_SKIPS = ("skip",), ("resnet", "skip", "orig")  # architectures of StyleGAN2


def transposed(w: Tensor) -> Tensor:
    """[I, O] -> [O, I]."""
    return w.t()


def conv(w: Tensor) -> Tensor:
    """[k, k, I, O] -> [O, I, k, k]."""
    return w.permute(3, 2, 0, 1)


def turned(w: Tensor) -> Tensor:
    """[k, k, I, O] -> [O, I, k, k], turned by 180 degrees."""
    return conv(w).flip(2, 3)


def deconv(w: Tensor) -> Tensor:
    """[k, k, O, I], as ProGAN keeps the kernels of its fused transposed convolutions, -> [O, I, k, k]."""
    return w.permute(2, 3, 0, 1)


def _layer(key: str, weight: Callable[[Tensor], Tensor] = conv) -> dict[str, Entry]:
    return {"weight": Entry(f"{key}/weight", weight), "bias": Entry(f"{key}/bias")}


def _table(modules: Mapping[str, Mapping[str, Entry]]) -> Table:
    entries = {f"{module}.{name}": entry for module, layer in modules.items() for name, entry in layer.items()}
    return entries.get


def _resolutions(last: int) -> list[int]:
    return [2**i for i in range(2, last.bit_length())]


def _lod(resolution: int, last: int) -> int:
    return last.bit_length() - resolution.bit_length()


# ProGAN. G.bR.conv0 holds a true convolution's kernel. The fused one is that, in a transposed convolution's layout; the
# other is a correlation's and is turned.
def _progan_g(model: Any, fused: bool) -> Table:
    last = model.img_resolution
    modules = {
        "b4.fc": {"weight": Entry("4x4/Dense/weight", transposed)},
        "b4": {"bias": Entry("4x4/Dense/bias")},
        "b4.conv1": _layer("4x4/Conv"),
    }
    for res in _resolutions(last):
        modules[f"b{res}.torgb"] = _layer(f"ToRGB_lod{_lod(res, last)}")
        if res > 4:
            up = _layer(f"{res}x{res}/Conv0_up", deconv) if fused else _layer(f"{res}x{res}/Conv0", turned)
            modules |= {f"b{res}.conv0": up, f"b{res}.conv1": _layer(f"{res}x{res}/Conv1")}
    return _table(modules)


def _progan_d(model: Any, fused: bool) -> Table:
    return _growing_d(model.img_resolution, "Conv1_down" if model.fused_scale else "Conv1")


def _growing_d(last: int, down: str) -> Table:
    modules = {
        "b4.conv": _layer("4x4/Conv"),
        "b4.fc": _layer("4x4/Dense0", transposed),
        "b4.out": _layer("4x4/Dense1", transposed),
    }
    for res in _resolutions(last):
        modules[f"b{res}.fromrgb"] = _layer(f"FromRGB_lod{_lod(res, last)}")
        if res > 4:
            modules |= {f"b{res}.conv0": _layer(f"{res}x{res}/Conv0"), f"b{res}.conv1": _layer(f"{res}x{res}/{down}")}
    return _table(modules)


# StyleGAN. Ours keeps the up-kernels as the published networks with fused_scale 'auto' do: fused from 128 on. Those of
# networks with another fused_scale are turned where the two differ.
def _stylegan_g(model: Any, fused: Any) -> Table:
    last = model.img_resolution
    modules = {f"mapping.fc{i}": _layer(f"mapping/Dense{i}", transposed) for i in range(model.map_depth)}
    modules["mapping"] = {"w_avg": Entry("dlatent_avg")}
    modules["mapping.embed"] = {"weight": Entry("mapping/LabelConcat/weight", transposed)}
    modules["synthesis.b4"] = {"const": Entry("synthesis/4x4/Const/const", _without_batch)}
    for i, res in enumerate(_resolutions(last)):
        there, here = f"synthesis/{res}x{res}", f"synthesis.b{res}"
        names = ("Const", "Conv") if res == 4 else ("Conv0_up", "Conv1")
        for k in range(2):
            modules[f"{here}.epilogue{k}"] = _epilogue(f"{there}/{names[k]}", f"synthesis/noise{2 * i + k}")
            modules[f"{here}.epilogue{k}.affine"] = _layer(f"{there}/{names[k]}/StyleMod", transposed)
        up = conv if (fused if fused in (True, False) else res >= 128) == (res >= 128) else turned
        modules[f"{here}.conv0"] = {"weight": Entry(f"{there}/{names[0]}/weight", up)}
        modules[f"{here}.conv1"] = {"weight": Entry(f"{there}/{names[1]}/weight", conv)}
        modules[f"{here}.torgb"] = _layer(f"synthesis/ToRGB_lod{_lod(res, last)}")
    return _table(modules)


def _epilogue(key: str, noise: str) -> dict[str, Entry]:
    return {
        "noise_strength": Entry(f"{key}/Noise/weight"),
        "noise_const": Entry(noise, _one_map),
        "bias": Entry(f"{key}/bias"),
    }


def _stylegan_d(model: Any, fused: Any) -> Table:
    return _growing_d(model.img_resolution, "Conv1_down")


def _without_batch(x: Tensor) -> Tensor:
    """[1, C, H, W] -> [C, H, W]."""
    return x[0]


def _one_map(x: Tensor) -> Tensor:
    """[1, 1, H, W] -> [H, W]."""
    return x[0, 0]


# StyleGAN2. The up-kernels of G are turned, for there a transposed convolution stores what ours and PyTorch's store
# turned; modulations have 1 added when they run there, and in their bias here.
def _stylegan2_g(model: Any, fused: Any) -> Table:
    modules = {f"mapping.fc{i}": _layer(f"mapping/Dense{i}", transposed) for i in range(model.map_depth)}
    modules["mapping"] = {"w_avg": Entry("dlatent_avg")}
    modules["mapping.embed"] = _layer("mapping/LabelEmbed", transposed)
    modules["synthesis.b4"] = {"const": Entry("synthesis/4x4/Const/const", _without_batch)}
    for res in _resolutions(model.img_resolution):
        there, here = f"synthesis/{res}x{res}", f"synthesis.b{res}"
        first = (
            2 * (res.bit_length() - 1) - 5
        )  # number of the noise of the layer that doubles the size, which 4x4 has not
        modules |= _modulated(f"{here}.conv1", f"{there}/{'Conv' if res == 4 else 'Conv1'}", conv, first + 1)
        modules |= _modulated(f"{here}.torgb", f"{there}/ToRGB", conv)
        if res > 4:
            modules |= _modulated(f"{here}.conv0", f"{there}/Conv0_up", turned, first)
    return _table(modules)


def _modulated(
    here: str, there: str, weight: Callable[[Tensor], Tensor], noise: int | None = None
) -> dict[str, dict[str, Entry]]:
    layer = _layer(there, weight)
    if noise is not None:
        layer["noise_strength"] = Entry(f"{there}/noise_strength")
        layer["noise_const"] = Entry(f"synthesis/noise{noise}", _one_map)
    affine = {"weight": Entry(f"{there}/mod_weight", transposed), "bias": Entry(f"{there}/mod_bias", _plus_one)}
    return {here: layer, f"{here}.affine": affine}


def _plus_one(bias: Tensor) -> Tensor:
    return bias + 1


def _stylegan2_d(model: Any, fused: Any) -> Table:
    modules = {
        "b4.conv": _layer("4x4/Conv"),
        "b4.fc": _layer("4x4/Dense0", transposed),
        "b4.out": _layer("Output", transposed),
        "mapping.embed": _layer("LabelEmbed", transposed),
        **{f"mapping.fc{i}": _layer(f"Mapping{i}", transposed) for i in range(8)},
    }
    for res in _resolutions(model.img_resolution):
        modules[f"b{res}.fromrgb"] = _layer(f"{res}x{res}/FromRGB")
        if res > 4:
            modules[f"b{res}.conv0"] = _layer(f"{res}x{res}/Conv0")
            modules[f"b{res}.conv1"] = _layer(f"{res}x{res}/Conv1_down")
            modules[f"b{res}.skip"] = {"weight": Entry(f"{res}x{res}/Skip/weight", conv)}
    return _table(modules)


FAMILY_TABLES: dict[str, dict[str, Callable[[Any, Any], Table]]] = {
    "progan": {"G": _progan_g, "D": _progan_d},
    "stylegan": {"G": _stylegan_g, "D": _stylegan_d},
    "stylegan2": {"G": _stylegan2_g, "D": _stylegan2_d},
}


def options_of(family: str, networks: Networks) -> tuple[ModelOptions, Any]:
    """The options that give networks of these shapes, and G's fused_scale.

    Args:
        family: "progan", "stylegan" or "stylegan2".
        networks: Variables and arguments of what there is of `NETWORKS`.

    Raises:
        ValueError: There are none, or G and D do not fit together.
    """
    G = networks.get("G_ema") or networks.get("G") or ({}, {})
    D = networks.get("D") or ({}, {})
    what = f"{NAME} {family}"
    try:
        if family == "progan":
            return _progan_options(what, *G, *D)
        if family == "stylegan":
            return _stylegan_options(what, *G, *D), G[1].get("fused_scale", "auto")
        return _stylegan2_options(what, *G, *D), None
    except (KeyError, IndexError) as error:
        raise ValueError(f"{what} lacks {error}") from error


def _progan_options(what: str, G: Any, G_arguments: Any, D: Any, D_arguments: Any) -> tuple[ProGANOptions, bool]:
    last = _widest(G, "ToRGB_lod{}/bias")
    widths = {res: len(G[_conv(res, "Conv1")]) for res in _resolutions(last)} | _widths_of_d(D)
    base, most = channel_base_of(what, widths)
    c_dim = len(D["4x4/Dense1/bias"]) - 1 if D else int(G_arguments.get("label_size", 0))
    down = f"{last}x{last}/Conv1_down/weight"
    model = ProGANOptions(
        img_resolution=last,
        img_channels=len(G["ToRGB_lod0/bias"]),
        c_dim=c_dim,
        z_dim=G["4x4/Dense/weight"].shape[0] - c_dim,
        fmap_base=base // 2,
        fmap_max=most,
        mbstd_group_size=int(D_arguments.get("mbstd_group_size", 4)),
        fused_scale=down in D if D and last > 4 else True,
        num_fp16_res=0,
        precision="fp32",
        channels_last=False,
    )
    return model, f"{last}x{last}/Conv0_up/weight" in G


def _stylegan_options(what: str, G: Any, G_arguments: Any, D: Any, D_arguments: Any) -> StyleGANOptions:
    last = _widest(G, "synthesis/ToRGB_lod{}/bias")
    widths = {res: len(G[f"synthesis/{_conv(res, 'Conv1')}"]) for res in _resolutions(last)} | _widths_of_d(D)
    base, most = channel_base_of(what, widths)
    embed = G.get("mapping/LabelConcat/weight")  # [c_dim, z_dim]
    return StyleGANOptions(
        img_resolution=last,
        img_channels=len(G["synthesis/ToRGB_lod0/bias"]),
        c_dim=0 if embed is None else embed.shape[0],
        z_dim=G["mapping/Dense0/weight"].shape[0] // (1 if embed is None else 2),
        w_dim=G["synthesis/4x4/Const/StyleMod/weight"].shape[0],
        map_depth=sum(key.startswith("mapping/Dense") and key.endswith("weight") for key in G),
        channel_base=base,
        channel_max=most,
        mbstd_group_size=int(D_arguments.get("mbstd_group_size", 4)),
        num_fp16_res=0,
        precision="fp32",
        channels_last=False,
    )


def _stylegan2_options(what: str, G: Any, G_arguments: Any, D: Any, D_arguments: Any) -> StyleGAN2Options:
    if "mapping/LabelConcat/weight" in G or (D and len(D["Output/bias"]) > 1 and "LabelEmbed/weight" not in D):
        raise ValueError(f"{what} takes labels as the first StyleGAN does, which StyleGAN2 here cannot")
    for name, given, default, expected in (("G", G_arguments, "skip", G_SKIPS), ("D", D_arguments, "resnet", D_SKIPS)):
        if given.get("architecture", default) not in expected:
            raise ValueError(f"{what}: {name}'s architecture must be one of {expected}, got {given['architecture']!r}")
    of_g = {res: f"synthesis/{_conv(res, 'Conv1')}" for res in _resolutions(1 << 15)}
    of_d = {res: _conv(res, "Conv0") for res in _resolutions(1 << 15)}
    widths = {res: len(G[key]) for res, key in of_g.items() if key in G}
    widths |= {res: len(D[key]) for res, key in of_d.items() if key in D}
    base, most = channel_base_of(what, widths)
    last = max(widths)
    embed = G.get("mapping/LabelEmbed/weight", D.get("LabelEmbed/weight"))  # [c_dim, features]
    from_embed = G["mapping/LabelEmbed/weight"].shape[1] if "mapping/LabelEmbed/weight" in G else 0
    arguments = {**D_arguments, **G_arguments}
    num_fp16_res = int(arguments.get("num_fp16_res", 0))
    return StyleGAN2Options(
        img_resolution=last,
        img_channels=len(G[f"synthesis/{last}x{last}/ToRGB/bias"]) if G else D[_from_rgb(last)].shape[2],
        c_dim=0 if embed is None else embed.shape[0],
        z_dim=G["mapping/Dense0/weight"].shape[0] - from_embed if G else 512,
        w_dim=G["synthesis/4x4/Conv/mod_weight"].shape[0] if G else 512,
        map_depth=sum(key.startswith("mapping/Dense") and key.endswith("weight") for key in G) or 8,
        channel_base=base,
        channel_max=most,
        mbstd_group_size=int(D_arguments.get("mbstd_group_size", 4)),
        num_fp16_res=num_fp16_res,
        conv_clamp=arguments.get("conv_clamp"),
        precision="fp16" if num_fp16_res else "fp32",
        d_architecture=D_arguments.get("architecture", "resnet"),
        channels_last=False,
    )


def _widest(state: Mapping[str, Tensor], key: str) -> int:
    """The final resolution, from how many levels of detail there are."""
    levels = [lod for lod in range(14) if key.format(lod) in state]
    if not levels:
        raise KeyError(key.format(0))
    return 4 << max(levels)


def _conv(resolution: int, name: str) -> str:
    return "4x4/Conv/bias" if resolution == 4 else f"{resolution}x{resolution}/{name}/bias"


def _from_rgb(resolution: int) -> str:
    return f"{resolution}x{resolution}/FromRGB/weight"


def _widths_of_d(D: Mapping[str, Tensor]) -> dict[int, int]:
    """Channels by resolution of a D that grows; its linear layer has those of resolution 2."""
    found = {res: len(D[_conv(res, "Conv0")]) for res in _resolutions(1 << 15) if _conv(res, "Conv0") in D}
    return found | ({2: len(D["4x4/Dense0/bias"])} if D else {})
