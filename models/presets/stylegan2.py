"""StyleGAN2 and its published configurations, one row each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..training.options import TrainingOptions

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class StyleGAN2Options:
    """Everything that decides what the networks are, named as their arguments."""

    img_resolution: int
    img_channels: int
    c_dim: int
    z_dim: int
    w_dim: int
    map_depth: int
    channel_base: int
    channel_max: int
    mbstd_group_size: int
    num_fp16_res: int
    conv_clamp: float | None
    precision: str
    d_architecture: str
    channels_last: bool
    base_size: tuple[int, int] = (4, 4)  # (height, width) at nominal resolution 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_size", tuple(self.base_size))  # JSON knows no tuples


@dataclass(frozen=True)
class Preset:
    """One configuration; None where the value follows from the resolution, the batch or the number of GPUs."""

    gpus: int  # that the configuration was published for
    kimg: float
    batch: int | None
    mbstd: int | None  # minibatch stddev group size
    fmaps: float | None  # channel_base / 32768
    lr: float | None
    gamma: float | None  # r1_gamma
    ema: float | None  # ema_kimg
    ramp: float | None  # ema_rampup
    map_depth: int  # layers of the mapping network
    pl_weight: float = 2.0
    pl_interval: int = 4
    mixing: float = 0.9
    r1_interval: int = 16
    d_architecture: str = "resnet"
    dims: int = 512  # z_dim = w_dim
    channel_max: int = 512
    num_fp16_res: int = 4
    precision: str = "fp16"
    tick: float = 4.0
    image_snap: int = 50
    snap: int = 50
    channels_last: bool = False
    cond: bool = False
    aug: str = "noaug"


# Rows from auto to cifar: Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020, appendix
# C, and the configurations published with it. config-e: Karras et al., "Analyzing and Improving the Image Quality of
# StyleGAN", 2020, table 1, whose config F is the row stylegan2; that paper augmented nothing. `digits` is the
# demonstration on the embedded data, which are many and small enough to do without.
# fmt: off
PRESETS = {
    #                     gpus    kimg batch  mbstd  fmaps      lr  gamma    ema   ramp  map
    "auto":       Preset(    1,  25000, None,  None,  None,   None,  None,  None,  0.05,   2, aug="ada"),
    "stylegan2":  Preset(    8,  25000,   32,     4,   1.0,  0.002,  10.0,  10.0,  None,   8),
    "config-e":   Preset(    8,  25000,   32,     4,   0.5,  0.002, 100.0,  10.0,  None,   8, precision="fp32"),
    "paper256":   Preset(    8,  25000,   64,     8,   0.5, 0.0025,   1.0,  20.0,  None,   8, aug="ada"),
    "paper512":   Preset(    8,  25000,   64,     8,   1.0, 0.0025,   0.5,  20.0,  None,   8, aug="ada"),
    "paper1024":  Preset(    8,  25000,   32,     4,   1.0,  0.002,   2.0,  10.0,  None,   8, aug="ada"),
    "cifar":      Preset(    2, 100000,   64,    32,   1.0, 0.0025,  0.01, 500.0,  0.05,   2,
                         pl_weight=0.0, mixing=0.0, d_architecture="orig", aug="ada"),
    "digits":     Preset(    1,     80,   32,     4, 1/64, 0.0025,   1.0,   5.0,  0.05,   2,
                         pl_weight=0.0, pl_interval=0, mixing=0.0, r1_interval=8, dims=64, channel_max=128,
                         num_fp16_res=3, precision="bf16", tick=1.0, image_snap=4, snap=20, channels_last=True,
                         cond=True),
}
# fmt: on


def resolve(
    p: Preset, resolution: int, channels: int, c_dim: int, gpus: int, precision: str, base_size: tuple[int, int]
) -> tuple[StyleGAN2Options, TrainingOptions]:
    """The networks and training of a row, for data of a given size.

    Source: Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020, appendix C.
    """
    batch = p.batch or max(min(gpus * min(4096 // resolution, 32), 64), gpus)
    fmaps = p.fmaps or (1.0 if resolution >= 512 else 0.5)
    low = precision != "fp32"
    model = StyleGAN2Options(
        img_resolution=resolution,
        img_channels=channels,
        c_dim=c_dim,
        z_dim=p.dims,
        w_dim=p.dims,
        map_depth=p.map_depth,
        channel_base=int(fmaps * 32768),
        channel_max=p.channel_max,
        mbstd_group_size=p.mbstd or min(batch // gpus, 4),
        num_fp16_res=p.num_fp16_res if low else 0,
        conv_clamp=256.0 if low else None,
        precision=precision,
        d_architecture=p.d_architecture,
        channels_last=p.channels_last,
        base_size=base_size,
    )
    training = TrainingOptions(
        batch=batch,
        kimg=p.kimg,
        lr=p.lr or (0.002 if resolution >= 1024 else 0.0025),
        r1_gamma=0.0002 * resolution**2 / batch if p.gamma is None else p.gamma,
        r1_interval=p.r1_interval,
        pl_weight=p.pl_weight,
        pl_interval=p.pl_interval,
        style_mixing_prob=p.mixing,
        ema_kimg=p.ema or batch * 10 / 32,
        ema_rampup=p.ramp,
        tick_kimg=p.tick,
        image_snap=p.image_snap,
        snap=p.snap,
        aug=p.aug,
    )
    return model, training


def build(options: StyleGAN2Options) -> tuple[nn.Module, nn.Module]:
    """The generator and the discriminator of a configuration, freshly initialised on the CPU."""
    import torch

    from ..stylegan2 import Discriminator, Generator

    shared: dict[str, Any] = {
        "c_dim": options.c_dim,
        "img_resolution": options.img_resolution,
        "img_channels": options.img_channels,
        "base_size": options.base_size,
        "channel_base": options.channel_base,
        "channel_max": options.channel_max,
        "num_fp16_res": options.num_fp16_res,
        "conv_clamp": options.conv_clamp,
        "lowp_dtype": torch.bfloat16 if options.precision == "bf16" else torch.float16,
        "channels_last": options.channels_last,
    }
    mapping = {"num_layers": options.map_depth}
    G = Generator(z_dim=options.z_dim, w_dim=options.w_dim, mapping_kwargs=mapping, **shared)
    D = Discriminator(
        architecture=options.d_architecture,
        epilogue_kwargs={"mbstd_group_size": options.mbstd_group_size},
        **shared,
    )
    return G, D
