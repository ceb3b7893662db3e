"""BigGAN and BigGAN-deep and their published configurations, one row each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..training.options import TrainingOptions

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class BigGANOptions:
    """Everything that decides what the networks are, named as their arguments."""

    img_resolution: int
    base: int  # shorter side of the features that G starts from
    img_channels: int
    c_dim: int
    z_dim: int
    ch: int
    deep: bool
    hier: bool
    shared_dim: int
    attention: tuple[int, ...]
    init: str
    sn_eps: float
    precision: str
    channels_last: bool
    bn_eps: float = 1e-5
    sn_layout: str = "biggan"
    g_spectral_norm: bool = True
    relu_skip: bool = False
    base_size: tuple[int, int] = (4, 4)  # images have base_size * img_resolution / 4 pixels (height, width)

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_size", tuple(self.base_size))
        object.__setattr__(self, "attention", tuple(self.attention))  # JSON knows no tuples


@dataclass(frozen=True)
class Preset:
    """One configuration."""

    batch: int  # images per step
    at_once: int  # of them through the networks, over all devices
    d_steps: int
    lr: float  # of G
    d_lr: float
    ch: int
    z: int  # at most: it becomes a multiple of the number of blocks + 1 where z is hierarchical
    shared: int  # shared_dim; 0 for embeddings in every normalisation, without hierarchical z
    init: str
    ema_start: int  # iterations
    kimg: float
    deep: bool = False
    attention: tuple[int, ...] = (64,)  # of those that there are
    small_base: bool = False  # whether the base is 2 or 3 instead of 4 or 6, and so one resolution more
    ema_beta: float = 0.9999
    beta1: float = 0.0
    beta2: float = 0.999
    sn_eps: float = 1e-6
    adam_eps: float = 1e-6
    ortho_strength: float = 0.0
    standing: int = 0
    sync_bn: bool = False
    mirror: bool = False
    precision: str = "fp32"
    tick: float = 100.0
    image_snap: int = 10
    snap: int = 10
    channels_last: bool = False
    cond: bool = True


# Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis", 2019. `biggan128-paper` is its
# appendix C, and equation 3 with beta = 1e-4; the next four are the launch scripts of BigGAN-PyTorch, whose batch
# normalisation takes each device by itself; all five for the 150,000 iterations of the published run.
# `biggan-cifar`: its script for CIFAR-10, 500 epochs; `biggan-cifar-ch96`: the recipe of PyTorch-StudioGAN, 100,000
# iterations. `biggan-digits` is the demonstration on the embedded data.
# fmt: off
PRESETS = {
    #                              batch at_once nD    G_lr    D_lr   ch    z shared  init    EMA   kimg
    "biggan128-paper":      Preset( 2048, 2048,   2,   5e-5,   2e-4,  96, 120,  128, "ortho",     0,   614_400,
                                    sn_eps=1e-4, adam_eps=1e-8, ortho_strength=2e-4, sync_bn=True),
    "biggan128":            Preset( 2048,  256,   1,   1e-4,   4e-4,  96, 120,  128, "ortho", 20000,   307_200),
    "biggan128-bs512x4":    Preset( 2048,  512,   1,   1e-4,   4e-4,  96, 120,  128, "ortho", 20000,   307_200),
    "biggan128-ch64":       Preset( 2048,  256,   1,   1e-4,   4e-4,  64, 120,  128, "ortho", 20000,   307_200),
    "biggan-deep128":       Preset( 2048,  256,   1,   1e-4,   4e-4, 128, 128,  128, "ortho", 20000,   307_200,
                                    deep=True),
    "biggan-cifar":         Preset(   50,   50,   4,   2e-4,   2e-4,  64, 128,    0, "N02",    1000,    25_000,
                                    attention=(), sn_eps=1e-8, adam_eps=1e-8),
    "biggan-cifar-ch96":    Preset(   64,   64,   5,   2e-4,   2e-4,  96,  80,  128, "ortho",  1000,    32_000,
                                    attention=(), beta1=0.5, mirror=True),
    "biggan-digits":        Preset(   32,   32,   1,   1e-3,   2e-3,   8,  40,   32, "ortho",   100,        60,
                                    attention=(16,), small_base=True, ema_beta=0.995, standing=16, tick=1.0,
                                    image_snap=4, snap=20, channels_last=True),
}
# fmt: on


def resolve(
    p: Preset, resolution: int, channels: int, c_dim: int, gpus: int, precision: str, base_size: tuple[int, int]
) -> tuple[BigGANOptions, TrainingOptions]:
    """The networks and training of a row, for data of a given size; `gpus` share the images that go through at once.

    Source: Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis", 2019, appendices B, C.
    """
    from ..resnet import generator_stages, nominal_size

    hier = p.shared > 0
    base = nominal_size(*base_size, resolution)[1]
    base = base // 2 if p.small_base and base % 2 == 0 else base
    nominal = min(base_size) * resolution // base  # of the networks
    parts = 1 if p.deep or not hier else len(generator_stages(nominal, p.ch)) + 1
    model = BigGANOptions(
        img_resolution=resolution,
        base=base,
        img_channels=channels,
        c_dim=c_dim,
        z_dim=p.z // parts * parts,
        ch=p.ch,
        deep=p.deep,
        hier=hier,
        shared_dim=p.shared,
        attention=p.attention,
        init=p.init,
        sn_eps=p.sn_eps,
        precision=precision,
        channels_last=p.channels_last,
        base_size=base_size,
    )
    return model, replace(training_of(p, gpus), sync_bn=p.sync_bn)


def training_of(p: Any, gpus: int) -> TrainingOptions:
    """What a row says of the training; hinge loss, and G's buffers averaged with its weights."""
    return TrainingOptions(
        batch=p.batch,
        batch_gpu=max(p.at_once // gpus, 1) if p.at_once < p.batch else None,
        kimg=p.kimg,
        lr=p.lr,
        d_lr=p.d_lr,
        r1_gamma=0.0,
        r1_interval=0,
        pl_weight=0.0,
        pl_interval=0,
        style_mixing_prob=0.0,
        ema_kimg=None,
        ema_rampup=None,
        ema_beta=p.ema_beta,
        ema_start=p.ema_start,
        ema_buffers="lerp",
        tick_kimg=p.tick,
        image_snap=p.image_snap,
        snap=p.snap,
        beta1=p.beta1,
        beta2=p.beta2,
        adam_eps=p.adam_eps,
        mirror=p.mirror,
        loss="hinge",
        d_steps=p.d_steps,
        d_joint=True,
        order=("D", "G", "ema"),
        ortho_strength=p.ortho_strength,
        standing_batches=p.standing,
    )


def build(options: BigGANOptions) -> tuple[nn.Module, nn.Module]:
    """The generator and the discriminator of a configuration, freshly initialised on the CPU."""
    import torch

    from ..biggan import Discriminator, Generator

    nominal = min(options.base_size) * options.img_resolution // options.base
    height, width = (side * options.img_resolution // nominal for side in options.base_size)
    lowp_dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[options.precision]
    shared: dict[str, Any] = {
        "c_dim": options.c_dim,
        "img_resolution": nominal,
        "img_channels": options.img_channels,
        "ch": options.ch,
        "deep": options.deep,
        "attention": options.attention,
        "init": options.init,
        "sn_eps": options.sn_eps,
        "sn_layout": options.sn_layout,
        "lowp_dtype": lowp_dtype,
        "channels_last": options.channels_last,
    }
    own: dict[str, Any] = {
        "hier": options.hier,
        "shared_dim": options.shared_dim,
        "bn_eps": options.bn_eps,
        "spectral_norm": options.g_spectral_norm,
    }
    G = Generator(options.z_dim, base_size=(height, width), **own, **shared)
    return G, Discriminator(relu_skip=options.relu_skip, **shared)
