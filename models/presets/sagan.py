"""SAGAN, SNGAN and Self-Modulation and their published configurations, one row each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..training.options import TrainingOptions
from .biggan import training_of

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SAGANOptions:
    """Everything that decides what the networks are, named as their arguments."""

    img_resolution: int
    img_channels: int
    c_dim: int
    z_dim: int
    ch: int
    d_ch: int
    modulation: str
    attention: tuple[int, ...]
    g_spectral_norm: bool
    wide: bool
    precision: str
    channels_last: bool
    base_size: tuple[int, int] = (4, 4)  # images have base_size * img_resolution / 4 pixels (height, width)

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_size", tuple(self.base_size))
        object.__setattr__(self, "attention", tuple(self.attention))  # JSON knows no tuples


@dataclass(frozen=True)
class Preset:
    """One configuration."""

    batch: int  # images per step
    at_once: int  # of them through the networks
    d_steps: int
    lr: float  # of G
    d_lr: float
    beta2: float
    ch: int
    d_ch: int
    attention: tuple[int, ...]  # of those that there are
    g_spectral_norm: bool
    wide: bool
    ema_beta: float
    ema_start: int  # iterations
    kimg: float
    modulation: str = "class"  # where there are classes
    z: int = 128
    beta1: float = 0.0
    adam_eps: float = 1e-8
    ortho_strength: float = 0.0
    standing: int = 0
    mirror: bool = False
    precision: str = "fp32"
    tick: float = 100.0
    image_snap: int = 10
    snap: int = 10
    channels_last: bool = False
    cond: bool = True


# `sagan128`, `sngan128`: the launch scripts of BigGAN-PyTorch; their lengths are the papers' 1,000,000 and 450,000
# generator steps. `sngan128-paper` leaves G without spectral norm, as Miyato et al., "Spectral Normalization for
# Generative Adversarial Networks", 2018, do; `sngan-cifar`: there, appendix B, 100,000 generator steps;
# `selfmod-cifar`: the same with the generator of Chen et al., "On Self Modulation for Generative Adversarial Networks",
# 2019.
# fmt: off
PRESETS = {
    #                        batch at_once nD   G_lr  D_lr   b2   ch d_ch attention G_sn  wide   EMA from     kimg
    "sagan128":       Preset(  256, 128,   1,  1e-4, 4e-4, .999,  64,  64, (64,),  True,  True, .9999, 2000, 256_000),
    "sngan128":       Preset(   64,  64,   5,  2e-4, 2e-4,   .9,  64,  64, (),     True, False,   0.0,    0, 144_000),
    "sngan128-paper": Preset(   64,  64,   5,  2e-4, 2e-4,   .9,  64,  64, (),    False, False,   0.0,    0, 144_000),
    "sngan-cifar":    Preset(   64,  64,   5,  2e-4, 2e-4,   .9,  64,  32, (),    False, False,   0.0,    0,  32_000,
                             cond=False),
    "selfmod-cifar":  Preset(   64,  64,   5,  2e-4, 2e-4,   .9,  64,  32, (),    False, False,   0.0,    0,  32_000,
                             modulation="self", cond=False),
}
# fmt: on


def resolve(
    p: Preset, resolution: int, channels: int, c_dim: int, gpus: int, precision: str, base_size: tuple[int, int]
) -> tuple[SAGANOptions, TrainingOptions]:
    """The networks and training of a row, for data of a given size; `gpus` share the images that go through at once.

    Source: Zhang et al., "Self-Attention Generative Adversarial Networks", 2019, section 5; Miyato et al., "Spectral
        Normalization for Generative Adversarial Networks", 2018, appendix B.
    """
    model = SAGANOptions(
        img_resolution=resolution,
        img_channels=channels,
        c_dim=c_dim,
        z_dim=p.z,
        ch=p.ch,
        d_ch=p.d_ch,
        modulation="none" if p.modulation == "class" and c_dim == 0 else p.modulation,
        attention=p.attention,
        g_spectral_norm=p.g_spectral_norm,
        wide=p.wide,
        precision=precision,
        channels_last=p.channels_last,
        base_size=base_size,
    )
    return model, training_of(p, gpus)


def build(options: SAGANOptions) -> tuple[nn.Module, nn.Module]:
    """The generator and the discriminator of a configuration, freshly initialised on the CPU."""
    import torch

    from ..resnet import nominal_size
    from ..sagan import Discriminator, Generator

    nominal, _ = nominal_size(*options.base_size, options.img_resolution)
    height, width = (side * options.img_resolution // nominal for side in options.base_size)
    shared: dict[str, Any] = {
        "c_dim": options.c_dim,
        "img_resolution": nominal,
        "img_channels": options.img_channels,
        "attention": options.attention,
        "lowp_dtype": {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[options.precision],
        "channels_last": options.channels_last,
    }
    G = Generator(
        options.z_dim,
        ch=options.ch,
        modulation=options.modulation,
        spectral_norm=options.g_spectral_norm,
        base_size=(height, width),
        **shared,
    )
    return G, Discriminator(ch=options.d_ch, wide=options.wide, **shared)
