"""ProGAN and its published configurations, one row each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..training.options import Growth, TrainingOptions
from .growing import by_resolution, up_to, whole_kimg

if TYPE_CHECKING:
    from torch import nn

# Images that a GPU of 16 GB held at once, by the precision of the high resolutions.
BATCH_GPU = {
    "fp32": {256: 16, 512: 8, 1024: 4},
    "fp16": {512: 16, 1024: 8},
    "bf16": {512: 16, 1024: 8},
}


@dataclass(frozen=True)
class ProGANOptions:
    """Everything that decides what the networks are, named as their arguments."""

    img_resolution: int
    img_channels: int
    c_dim: int
    z_dim: int
    fmap_base: int
    fmap_max: int
    mbstd_group_size: int
    fused_scale: bool
    num_fp16_res: int
    precision: str
    channels_last: bool
    unit_bias: bool = False
    mbstd_grouping: str = "strided"
    mbstd_unbiased: bool = False
    base_size: tuple[int, int] = (4, 4)  # (height, width) at nominal resolution 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_size", tuple(self.base_size))  # JSON knows no tuples


@dataclass(frozen=True)
class Preset:
    """One configuration; None where the value follows from the resolution."""

    gpus: int  # that the configuration was published for
    kimg: float | None  # None: as long after the growth as the published run of 12000 kimg at 1024
    train: float  # kimg of each resolution on its own
    fade: float  # kimg of each resolution's fading in
    mbstd: int  # minibatch stddev group size
    batch: tuple[int, ...]  # at 4, 8, 16, ...; the last one also above
    lr: dict[int, float] = field(default_factory=dict)  # by resolution; elsewhere base_lr
    base_lr: float = 0.001
    dims: int = 512  # z_dim
    fmap_base: int = 8192
    fmap_max: int = 512
    ema_beta: float = 0.999
    num_fp16_res: int = 4
    precision: str = "fp32"
    tick: float = 4.0
    image_snap: int = 50
    snap: int = 50
    channels_last: bool = False
    cond: bool = False


# Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018, appendix A, for v1;
# v2 and the numbers of GPUs: the configurations published with it. `progan` is v2-1gpu, with a length that follows from
# the resolution; `progan-digits` is the demonstration on the embedded data.
# fmt: off
PRESETS = {
    #                          gpus   kimg train fade mbstd  batch at 4, 8, 16, ...
    "progan":          Preset(    1,  None,  600, 600,    4, (128, 128, 128, 64, 32, 16,  8,  4),
                              lr={1024: 0.0015}),
    "progan-v1-1gpu":  Preset(    1, 19000,  800, 800,   16, ( 16,  16,  16, 16, 16, 16, 14,  6,  3)),
    "progan-v2-1gpu":  Preset(    1, 12000,  600, 600,    4, (128, 128, 128, 64, 32, 16,  8,  4),
                              lr={1024: 0.0015}),
    "progan-v2-2gpus": Preset(    2, 12000,  600, 600,    4, (256, 256, 128, 64, 32, 16,  8),
                              lr={512: 0.0015, 1024: 0.002}),
    "progan-v2-4gpus": Preset(    4, 12000,  600, 600,    4, (512, 256, 128, 64, 32, 16),
                              lr={256: 0.0015, 512: 0.002, 1024: 0.003}),
    "progan-v2-8gpus": Preset(    8, 12000,  600, 600,    4, (512, 256, 128, 64, 32),
                              lr={128: 0.0015, 256: 0.002, 512: 0.003, 1024: 0.003}),
    "progan-digits":   Preset(    1,    60,    6,   4,    4, ( 16,),
                              base_lr=0.003, dims=64, fmap_base=256, fmap_max=128, ema_beta=0.99, tick=1.0,
                              image_snap=4, snap=20, channels_last=True, cond=True),
}
# fmt: on


def resolve(
    p: Preset, resolution: int, channels: int, c_dim: int, gpus: int, precision: str, base_size: tuple[int, int]
) -> tuple[ProGANOptions, TrainingOptions]:
    """The networks and training of a row, for data of a given size; `gpus` changes nothing, for the rows name them.

    Source: Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018,
        appendix A.
    """
    batch = by_resolution(p.batch, 4, resolution)
    batch_gpu = {r: n for r, n in BATCH_GPU[precision].items() if n < batch.get(r, 0)}
    growth = Growth(4, resolution, p.train, p.fade, batch, batch_gpu, up_to(p.lr, resolution))
    model = ProGANOptions(
        img_resolution=resolution,
        img_channels=channels,
        c_dim=c_dim,
        z_dim=p.dims,
        fmap_base=p.fmap_base,
        fmap_max=p.fmap_max,
        mbstd_group_size=p.mbstd,
        fused_scale=True,
        num_fp16_res=p.num_fp16_res if precision != "fp32" else 0,
        precision=precision,
        channels_last=p.channels_last,
        base_size=base_size,
    )
    training = TrainingOptions(
        batch=batch[resolution],
        kimg=p.kimg or whole_kimg(growth, 12000),
        lr=p.base_lr,
        r1_gamma=0.0,
        r1_interval=0,
        pl_weight=0.0,
        pl_interval=0,
        style_mixing_prob=0.0,
        ema_kimg=None,
        ema_rampup=None,
        tick_kimg=p.tick,
        image_snap=p.image_snap,
        snap=p.snap,
        loss="wgan",
        gp_weight=10.0,
        drift_weight=0.001,
        class_weight=1.0 if c_dim else 0.0,
        order=("D", "ema", "G"),
        ema_beta=p.ema_beta,
        growth=growth,
    )
    return model, training


def build(options: ProGANOptions) -> tuple[nn.Module, nn.Module]:
    """The generator and the discriminator of a configuration, freshly initialised on the CPU."""
    import torch

    from ..progan import Discriminator, Generator

    shared: dict[str, Any] = {
        "c_dim": options.c_dim,
        "img_resolution": options.img_resolution,
        "img_channels": options.img_channels,
        "base_size": options.base_size,
        "fmap_base": options.fmap_base,
        "fmap_max": options.fmap_max,
        "num_fp16_res": options.num_fp16_res,
        "lowp_dtype": torch.bfloat16 if options.precision == "bf16" else torch.float16,
        "channels_last": options.channels_last,
    }
    mbstd: dict[str, Any] = {
        "mbstd_group_size": options.mbstd_group_size,
        "mbstd_grouping": options.mbstd_grouping,
        "mbstd_unbiased": options.mbstd_unbiased,
    }
    G = Generator(z_dim=options.z_dim, unit_bias=options.unit_bias, **shared)
    D = Discriminator(fused_scale=options.fused_scale, **mbstd, **shared)
    return G, D
