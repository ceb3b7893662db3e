"""Networks of every family, as small as they go, before the first step of a run."""

from dataclasses import replace
from typing import Any

import torch

from gankern.models.config import FAMILIES, find_preset, resolve
from gankern.models.training.objectives import Batch
from gankern.models.training.options import TrainingOptions
from gankern.models.training.state import TrainingState, new_state

FAMILY_CONFIGURATIONS = [
    "auto",
    "cifar",
    "progan",
    "stylegan",
    "biggan-digits",
    "biggan128-paper",
    "biggan-deep128",
    "sagan128",
    "selfmod-cifar",
]
NARROW = {
    "channel_base": 64,
    "channel_max": 8,
    "fmap_base": 64,
    "fmap_max": 8,
    "ch": 4,
    "d_ch": 4,
    "map_depth": 1,
    "w_dim": 20,
    "z_dim": 20,
    "mbstd_group_size": 2,
    "shared_dim": 4,
}
SHORT = {"train_kimg": 0.016, "fade_kimg": 0.048, "lr": {}, "batch": {}, "batch_gpu": {}}


def small_state(
    cfg: str, growing: bool = False, resolution: int = 16, device: str = "cpu", c_dim: int = 3, **options: Any
) -> tuple[TrainingState, TrainingOptions]:
    """Networks and training of a configuration in fp32, with batches of 4 and 3 classes.

    Args:
        cfg: Its name.
        growing: Whether what can grow does, by a short schedule, or begins fully grown.
        resolution: Of the images.
        device: Where the networks are.
        c_dim: How many classes there are.
        options: Of the training.
    """
    model, training = resolve(cfg, resolution, 1, c_dim, precision="fp32")
    model = replace(model, **{k: v for k, v in NARROW.items() if getattr(model, k, None)})  # type: ignore[type-var]
    if training.growth is not None:
        first = 4 if growing else resolution
        options["growth"] = replace(training.growth, **{**SHORT, "first_resolution": first})
    torch.manual_seed(0)
    G, D = FAMILIES[find_preset(cfg)[0]].build(model)
    training = replace(training, **{"batch": 4, "batch_gpu": None, "kimg": 0.2, **options})
    return new_state(G, D, training, torch.device(device)), training


def inputs(state: TrainingState, resolution: int = 16, seed: int = 5) -> Batch:
    """One phase's inputs."""
    generator = torch.Generator().manual_seed(seed)
    c = torch.eye(3)[torch.randint(3, [8], generator=generator)]
    img = torch.rand([4, 1, resolution, resolution], generator=generator) * 2 - 1
    return Batch(img, c[:4], torch.randn([4, state.G.z_dim], generator=generator), c[4:])
