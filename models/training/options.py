"""Everything that decides what a training run computes, except the networks and the data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from gankern.nn import AUGPIPES

from .losses import LOSSES, RELATIVISTIC_LOSSES

PARTS = ("G", "D", "ema")
AUGS = ("noaug", "ada", "fixed", "diffaugment")


@dataclass(frozen=True)
class Growth:
    """Progressive growing: when each resolution comes in, and what changes with it. Read by schedule.py.

    A resolution fades in for `fade_kimg`, then trains on its own for `train_kimg`; the first only trains.
    Tables are by resolution; a resolution they do not name takes the value of `TrainingOptions`.

    Source: Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018, section 2
        and appendix A.
    """

    first_resolution: int
    last_resolution: int
    train_kimg: float
    fade_kimg: float
    batch: dict[int, int] = field(default_factory=dict)  # images per step
    batch_gpu: dict[int, int] = field(default_factory=dict)  # images that go through the networks at once
    lr: dict[int, float] = field(default_factory=dict)  # learning rate of G; D's changes in proportion
    repeats: int = 4  # iterations between two looks at the schedule

    def __post_init__(self) -> None:
        for name in ("first_resolution", "last_resolution"):
            value = getattr(self, name)
            if value < 4 or value & (value - 1):
                raise ValueError(f"growth: {name} must be a power of two of at least 4, got {value}")
        if self.first_resolution > self.last_resolution:
            at_most = f"at most last_resolution = {self.last_resolution}"
            raise ValueError(f"growth: first_resolution must be {at_most}, got {self.first_resolution}")
        if not self.train_kimg >= 0:
            raise ValueError(f"growth: train_kimg must not be negative, got {self.train_kimg}")
        for name in ("fade_kimg", "repeats"):
            if not getattr(self, name) > 0:
                raise ValueError(f"growth: {name} must be positive, got {getattr(self, name)}")
        for name in ("batch", "batch_gpu", "lr"):
            for resolution, value in getattr(self, name).items():
                if not value > 0:
                    raise ValueError(f"growth: {name} at {resolution} must be positive, got {value}")


@dataclass(frozen=True)
class TrainingOptions:
    """Options of the training loop, named as in the field.

    A regularisation's interval of 0 leaves it out, one of 1 adds it to the main step, and a longer one gives it steps
    of its own, with the optimiser's correction for them. A weight of 0 skips it but keeps that correction, as the
    published configurations do.
    """

    batch: int  # images per step
    kimg: float  # length of the run in thousands of real images
    lr: float  # learning rate of both networks
    r1_gamma: float  # weight of R1
    r1_interval: int  # iterations between R1 steps, and R2 steps
    pl_weight: float  # weight of path length regularisation
    pl_interval: int  # iterations between path length steps
    style_mixing_prob: float
    ema_kimg: float | None  # half-life of the generator's average, in thousands of images
    ema_rampup: float | None  # that half-life's ceiling, as a fraction of the images seen so far
    tick_kimg: float  # interval of the progress line, stats and loss check, in thousands of images
    image_snap: int  # ticks between sample grids
    snap: int  # ticks between snapshots
    beta1: float = 0.0
    beta2: float = 0.99
    mirror: bool = False
    seed: int = 0
    loss: str = "logistic"  # one of losses.LOSSES or losses.RELATIVISTIC_LOSSES
    gp_weight: float = 0.0  # weight of WGAN-GP's penalty, in the discriminator's main step
    gp_target: float = 1.0  # gradient norm that it asks for
    drift_weight: float = 0.0  # weight of the squared scores of real images, which keeps them near 0
    class_weight: float = 0.0  # weight of the class head's cross entropy (AC-GAN); D must have one
    d_lr: float | None = None  # learning rate of the discriminator; None: lr
    adam_eps: float = 1e-8
    d_steps: int = 1  # discriminator steps per iteration, each on a batch of its own
    batch_gpu: int | None = None  # images that go through the networks at once; None: the whole batch
    order: tuple[str, ...] = PARTS  # of an iteration: steps of G, steps of D, update of the average
    ema_beta: float | None = None  # weight of the old average per iteration, in place of ema_kimg
    ema_start: int = 0  # iterations for which the average is only copied
    ema_buffers: str = "copy"  # or "lerp", which averages G's buffers as well
    growth: Growth | None = None  # progressive growing
    d_joint: bool = False  # whether D sees generated and real images in one batch
    ortho_strength: float = 0.0  # weight of orthogonal regularisation, in every step
    sn_once: bool = False  # whether weights are spectrally normalised once per step, not at each forward pass
    sync_bn: bool = False  # whether batch normalisation takes its statistics over the batches of all ranks
    mbstd_global: bool = False  # whether minibatch standard deviation takes its groups from the batches of all ranks
    standing_batches: int = 0  # over which batch statistics are averaged anew for samples; 0: the running ones
    r2_gamma: float = 0.0  # weight of R2, the penalty on generated images that R1 is on real ones
    freeze_d: int = 0  # of D's layers, from the image on, that are not trained (Freeze-D)
    d_clip: float = 0.0  # largest absolute value of D's weights, clipped after each of its steps; 0 does not clip
    keep: int | None = None  # newest snapshots that are kept; None: all
    on_nan: str = "stop"  # or "rollback": back to the newest snapshot, and on with other random numbers
    aug: str = "noaug"  # augmentation of all images that D sees, one of AUGS
    augment_p: float = 0.0  # probability of each of the pipe's transforms: of all steps if fixed, of the first for ada
    augpipe: str = "bgc"  # the pipe, one of gankern.nn.AUGPIPES
    ada_target: float = 0.6  # mean sign of D's scores of real images that p is adapted for
    ada_kimg: float = 500.0  # in which p can go from 0 to 1, in thousands of images
    ada_interval: int = 4  # iterations between changes of p
    policy: str = "color,translation,cutout"  # of diffaugment

    def __post_init__(self) -> None:
        positive = ("batch", "kimg", "lr", "tick_kimg", "image_snap", "snap", "gp_target", "d_steps")
        for name in (
            *positive,
            "adam_eps",
            *(n for n in ("ema_kimg", "d_lr", "batch_gpu", "keep") if getattr(self, n) is not None),
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"training options: {name} must be positive, got {getattr(self, name)}")
        weights = ("r1_gamma", "r2_gamma", "pl_weight", "gp_weight", "drift_weight", "class_weight", "ortho_strength")
        numbers = (
            "r1_interval",
            "pl_interval",
            "ema_start",
            "seed",
            "standing_batches",
            "style_mixing_prob",
            "d_clip",
            "freeze_d",
        )
        for name in (*weights, *numbers):
            if not getattr(self, name) >= 0:
                raise ValueError(f"training options: {name} must not be negative, got {getattr(self, name)}")
        for name, value in vars(self).items():
            if value == math.inf:
                raise ValueError(f"training options: {name} must be finite, got {value}")
        if self.seed >= 1 << 31:
            raise ValueError(f"training options: seed must be less than 2^31, got {self.seed}")
        losses = [*LOSSES, *RELATIVISTIC_LOSSES]
        if self.loss not in losses:
            raise ValueError(f"training options: loss must be one of {', '.join(losses)}, got {self.loss}")
        if self.r2_gamma and not self.r1_interval:
            raise ValueError("training options: r2_gamma needs an r1_interval, which is that of R2 too, got 0")
        if (self.ema_kimg is None) == (self.ema_beta is None):
            raise ValueError("training options: expected one of ema_kimg and ema_beta, got both or none")
        if self.ema_beta is not None and not 0 <= self.ema_beta < 1:
            raise ValueError(f"training options: ema_beta must be in [0, 1), got {self.ema_beta}")
        if self.ema_buffers not in ("copy", "lerp"):
            raise ValueError(f"training options: ema_buffers must be copy or lerp, got {self.ema_buffers}")
        if self.on_nan not in ("stop", "rollback"):
            raise ValueError(f"training options: on_nan must be stop or rollback, got {self.on_nan}")
        self._check_augmentation()
        if sorted(self.order) != sorted(PARTS):
            raise ValueError(f"training options: order must hold each of {', '.join(PARTS)} once, got {self.order}")

    def _check_augmentation(self) -> None:
        for name, values in (("aug", AUGS), ("augpipe", AUGPIPES)):
            if getattr(self, name) not in values:
                expected = f"be one of {', '.join(values)}"
                raise ValueError(f"training options: {name} must {expected}, got {getattr(self, name)}")
        for name in ("ada_kimg", "ada_interval"):
            if not getattr(self, name) > 0:
                raise ValueError(f"training options: {name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.augment_p <= 1:
            raise ValueError(f"training options: augment_p must be in [0, 1], got {self.augment_p}")
        if not -1 < self.ada_target < 1:
            raise ValueError(f"training options: ada_target must be between -1 and 1, got {self.ada_target}")
        if self.aug == "fixed" and not self.augment_p:
            raise ValueError("training options: augment_p (--p) must be positive with aug = fixed, got 0")

    @staticmethod
    def from_json(value: dict[str, Any]) -> TrainingOptions:
        """The options whose `dataclasses.asdict` went through JSON, which knows no tuples and no keys but strings."""
        value = dict(value)
        if "order" in value:
            value["order"] = tuple(value["order"])
        if value.get("growth") is not None:
            growth = dict(value["growth"])
            for name in ("batch", "batch_gpu", "lr"):
                growth[name] = {int(resolution): number for resolution, number in growth[name].items()}
            value["growth"] = Growth(**growth)
        return TrainingOptions(**value)
