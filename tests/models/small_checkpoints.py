"""Small untrained generators of every family, as checkpoint files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gankern.models import convert
from gankern.models.config import FAMILIES
from gankern.models.convert import Checkpoint

STYLEGAN2: dict[str, Any] = {"z_dim": 16, "w_dim": 16, "map_depth": 2, "channel_base": 256, "channel_max": 16}
STYLEGAN2 |= {"mbstd_group_size": 4, "num_fp16_res": 0, "conv_clamp": None, "d_architecture": "resnet"}
STYLEGAN: dict[str, Any] = {"z_dim": 16, "w_dim": 16, "map_depth": 2, "channel_base": 256, "channel_max": 16}
STYLEGAN |= {"mbstd_group_size": 4, "num_fp16_res": 0}
PROGAN: dict[str, Any] = {"z_dim": 16, "fmap_base": 128, "fmap_max": 16, "mbstd_group_size": 4}
PROGAN |= {"fused_scale": True, "num_fp16_res": 0}
BIGGAN: dict[str, Any] = {"base": 4, "z_dim": 16, "ch": 4, "deep": False, "hier": True, "shared_dim": 8}
BIGGAN |= {"attention": (), "init": "ortho", "sn_eps": 1e-6}
SAGAN: dict[str, Any] = {"z_dim": 16, "ch": 4, "d_ch": 4, "modulation": "class", "attention": ()}
SAGAN |= {"g_spectral_norm": False, "wide": True}
OPTIONS = {"stylegan2": STYLEGAN2, "stylegan": STYLEGAN, "progan": PROGAN, "biggan": BIGGAN, "sagan": SAGAN}


def checkpoint(family: str, c_dim: int = 3, img_channels: int = 1, **options: Any) -> Checkpoint:
    """G_ema and D of a family, 32x32, that are like trained ones: noise is added, nothing is constant, w has a mean."""
    torch.manual_seed(0)
    plain = {"img_resolution": 32, "img_channels": img_channels, "c_dim": c_dim, "precision": "fp32"}
    model = FAMILIES[family].options(**plain | {"channels_last": False} | OPTIONS[family] | options)
    G, D = FAMILIES[family].build(model)
    with torch.no_grad():
        for name, value in G.named_parameters():
            if name.endswith("noise_strength"):
                value.fill_(0.05)
            if name.endswith("const"):
                value.normal_()
        for name, value in G.named_buffers():
            if name.endswith("w_avg"):
                value.normal_()
    return Checkpoint(family, model, "test", D=D.eval(), G_ema=G.eval())


def written(folder: Path, family: str, **options: Any) -> Path:
    """The same as a file."""
    path = folder / f"{family}.safetensors"
    convert.save(checkpoint(family, **options), path)
    return path
