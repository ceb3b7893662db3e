"""Everything that decides what a training run computes, except the networks and the data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingOptions:
    """Options of the training loop, named as in the field.

    An interval of 0 leaves that regularisation phase out; a weight of 0 skips it but keeps the optimiser's
    correction for its interval, as the published configurations do.
    """

    batch: int  # images per step
    kimg: float  # length of the run in thousands of real images
    lr: float  # learning rate of both networks
    r1_gamma: float  # weight of R1
    r1_interval: int  # iterations between R1 steps
    pl_weight: float  # weight of path length regularisation
    pl_interval: int  # iterations between path length steps
    style_mixing_prob: float
    ema_kimg: float  # half-life of the generator's average, in thousands of images
    ema_rampup: float | None  # that half-life's ceiling, as a fraction of the images seen so far
    tick_kimg: float  # interval of the progress line, stats and loss check, in thousands of images
    image_snap: int  # ticks between sample grids
    snap: int  # ticks between snapshots
    beta1: float = 0.0
    beta2: float = 0.99
    mirror: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch", "kimg", "lr", "ema_kimg", "tick_kimg", "image_snap", "snap"):
            if not getattr(self, name) > 0:
                raise ValueError(f"training options: {name} must be positive, got {getattr(self, name)}")
        for name in ("r1_gamma", "r1_interval", "pl_weight", "pl_interval", "style_mixing_prob", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"training options: {name} must not be negative, got {getattr(self, name)}")
