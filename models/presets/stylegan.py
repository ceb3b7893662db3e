"""StyleGAN (the first) and its published configurations, one row each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..training.options import Growth, TrainingOptions
from .growing import by_resolution, up_to, whole_kimg

if TYPE_CHECKING:
    from torch import nn

LR = {128: 0.0015, 256: 0.002, 512: 0.003, 1024: 0.003}  # by resolution; elsewhere base_lr


@dataclass(frozen=True)
class StyleGANOptions:
    """Everything that decides what the networks are, named as their arguments."""

    img_resolution: int
    img_channels: int
    c_dim: int
    z_dim: int
    w_dim: int
    map_depth: int
    channel_base: int
    channel_max: int
    mbstd_group_size: int | None
    num_fp16_res: int
    precision: str
    channels_last: bool
    variant: str = "stylegan"
    d_wide: bool = False
    base_size: tuple[int, int] = (4, 4)  # (height, width) at nominal resolution 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_size", tuple(self.base_size))  # JSON knows no tuples


@dataclass(frozen=True)
class Preset:
    """One configuration; None where the value follows from the resolution."""

    gpus: int  # that the configuration was published for
    kimg: float | None  # None: as long after the growth as the published run of 25000 kimg at 1024
    train: float  # kimg of each resolution on its own
    fade: float  # kimg of each resolution's fading in
    batch: tuple[int, ...]  # at 4, 8, 16, ...; the last one also above
    lr: dict[int, float] = field(default_factory=lambda: LR)
    base_lr: float = 0.001
    gamma: float = 10.0  # r1_gamma
    ema: float = 10.0  # ema_kimg
    mixing: float = 0.9
    map_depth: int = 8
    mbstd: int = 4  # minibatch stddev group size
    dims: int = 512  # z_dim = w_dim
    channel_base: int = 16384
    channel_max: int = 512
    num_fp16_res: int = 4
    precision: str = "fp32"
    tick: float = 4.0
    image_snap: int = 50
    snap: int = 50
    channels_last: bool = False
    cond: bool = False


# Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019, appendix C, and the
# configurations published with it. `stylegan` is the one for 1 GPU, with a length that follows from the resolution;
# `stylegan-digits` is the demonstration on the embedded data.
# fmt: off
PRESETS = {
    #                          gpus   kimg train fade  batch at 4, 8, 16, ...
    "stylegan":        Preset(    1,  None,  600, 600, (128, 128, 128, 64, 32, 16,  8,  4)),
    "stylegan-1gpu":   Preset(    1, 25000,  600, 600, (128, 128, 128, 64, 32, 16,  8,  4)),
    "stylegan-2gpus":  Preset(    2, 25000,  600, 600, (256, 256, 128, 64, 32, 16,  8)),
    "stylegan-4gpus":  Preset(    4, 25000,  600, 600, (512, 256, 128, 64, 32, 16)),
    "stylegan-8gpus":  Preset(    8, 25000,  600, 600, (512, 256, 128, 64, 32)),
    "stylegan-digits": Preset(    1,    60,    6,   4, ( 16,), lr={},
                              base_lr=0.002, gamma=1.0, ema=1.0, mixing=0.0, map_depth=4, dims=64, channel_base=512,
                              channel_max=128, num_fp16_res=3, precision="bf16", tick=1.0, image_snap=4, snap=20,
                              channels_last=True, cond=True),
}
# fmt: on


def resolve(
    p: Preset, resolution: int, channels: int, c_dim: int, gpus: int, precision: str, base_size: tuple[int, int]
) -> tuple[StyleGANOptions, TrainingOptions]:
    """The networks and training of a row, for data of a given size; `gpus` changes nothing, for the rows name them.

    Source: Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019, appendix C.
    """
    first = min(8, resolution)
    batch = by_resolution(p.batch, first, resolution)
    growth = Growth(first, resolution, p.train, p.fade, batch, lr=up_to(p.lr, resolution))
    model = StyleGANOptions(
        img_resolution=resolution,
        img_channels=channels,
        c_dim=c_dim,
        z_dim=p.dims,
        w_dim=p.dims,
        map_depth=p.map_depth,
        channel_base=p.channel_base,
        channel_max=p.channel_max,
        mbstd_group_size=p.mbstd,
        num_fp16_res=p.num_fp16_res if precision != "fp32" else 0,
        precision=precision,
        channels_last=p.channels_last,
        base_size=base_size,
    )
    training = TrainingOptions(
        batch=batch[resolution],
        kimg=p.kimg or whole_kimg(growth, 25000),
        lr=p.base_lr,
        r1_gamma=p.gamma,
        r1_interval=1,
        pl_weight=0.0,
        pl_interval=0,
        style_mixing_prob=p.mixing,
        ema_kimg=p.ema,
        ema_rampup=None,
        tick_kimg=p.tick,
        image_snap=p.image_snap,
        snap=p.snap,
        order=("D", "ema", "G"),
        growth=growth,
    )
    return model, training


def build(options: StyleGANOptions) -> tuple[nn.Module, nn.Module]:
    """The generator and the discriminator of a configuration, freshly initialised on the CPU."""
    import torch

    from ..stylegan import Discriminator, Generator

    shared: dict[str, Any] = {
        "c_dim": options.c_dim,
        "img_resolution": options.img_resolution,
        "img_channels": options.img_channels,
        "base_size": options.base_size,
        "channel_base": options.channel_base,
        "channel_max": options.channel_max,
        "num_fp16_res": options.num_fp16_res,
        "lowp_dtype": torch.bfloat16 if options.precision == "bf16" else torch.float16,
        "channels_last": options.channels_last,
    }
    mapping = {"num_layers": options.map_depth}
    own: dict[str, Any] = {"z_dim": options.z_dim, "w_dim": options.w_dim, "variant": options.variant}
    G = Generator(mapping_kwargs=mapping, **own, **shared)
    D = Discriminator(mbstd_group_size=options.mbstd_group_size, wide=options.d_wide, **shared)
    return G, D
