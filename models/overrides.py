"""Options of `gankern train` that replace single values of a configuration, named as in the published tools."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from .arguments import boolean

if TYPE_CHECKING:
    from .config import Config, ModelOptions
    from .training.options import TrainingOptions


class Override(NamedTuple):
    """One option of the command."""

    type: Callable[[str], Any]
    fields: tuple[str, ...]  # the option of the training, or of the networks: of several that which the family has
    help: str


# fmt: off
TRAINING = {
    "r2_gamma":      Override(float,   ("r2_gamma",), "weight of R2: R1 on generated images"),
    "d_reg_every":   Override(int,     ("r1_interval",), "iterations between steps of R1 and R2; 1: in every step"),
    "pl_weight":     Override(float,   ("pl_weight",), "StyleGAN: weight of path length regularisation"),
    "g_reg_every":   Override(int,     ("pl_interval",), "iterations between steps of path length; 0: none"),
    "d_steps":       Override(int,     ("d_steps",), "steps of D for each of G"),
    "glr":           Override(float,   ("lr",), "learning rate of G"),
    "dlr":           Override(float,   ("d_lr",), "learning rate of D"),
    "freezed":       Override(int,     ("freeze_d",), "first layers of D that are not trained (Freeze-D)"),
}
MODEL = {
    "cbase":         Override(int,     ("channel_base", "fmap_base"), "StyleGAN, ProGAN: channels times resolution"),
    "cmax":          Override(int,     ("channel_max", "fmap_max"), "StyleGAN, ProGAN: most channels of a layer"),
    "ch":            Override(int,     ("ch",), "BigGAN, and G of SAGAN and SNGAN: unit of width"),
    "map_depth":     Override(int,     ("map_depth",), "StyleGAN: layers of the mapping network"),
    "mbstd_group":   Override(int,     ("mbstd_group_size",), "StyleGAN, ProGAN: images per minibatch statistic"),
    "channels_last": Override(boolean, ("channels_last",), "0 or 1: the memory format of images and weights"),
}
# fmt: on
LOSS_OPTIONS = ("logistic", "logistic-saturating", "wgan", "wgan-gp", "hinge", "lsgan", "rpgan", "ragan")


def add_override_options(train: argparse.ArgumentParser) -> None:
    """Adds them to the parser, in a group of their own."""
    group = train.add_argument_group("values of the configuration [from cfg]")
    group.add_argument("--loss", choices=LOSS_OPTIONS, help="adversarial loss; docs/training.md has their formulas")
    for name, option in (TRAINING | MODEL).items():
        names = [f"--{name.replace('_', '-')}", *(["--nhwc"] if name == "channels_last" else [])]
        group.add_argument(*names, dest=name, type=option.type, metavar="N", help=option.help)


def with_overrides(
    args: argparse.Namespace, cfg: str, model: ModelOptions, training: TrainingOptions
) -> tuple[ModelOptions, TrainingOptions]:
    """A configuration's networks and training, with the options that were given.

    Raises:
        ValueError: An option means nothing to the networks of the configuration, or does not fit the others.
    """
    if args.loss is not None:
        training = with_loss(training, args.loss)
    if args.glr is not None and args.glr != training.lr:
        training = _with_g_lr(training, args.glr)
    values = {
        option.fields[0]: value for name, option in TRAINING.items() if (value := getattr(args, name)) is not None
    }
    for name, option in MODEL.items():
        if getattr(args, name) is not None:
            field = _field(model, option)
            if field is None:
                raise ValueError(f"--{name.replace('_', '-')} means nothing to the networks of --cfg {cfg}")
            if option.type is int and getattr(args, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be positive, got {getattr(args, name)}")
            model = replace(model, **{field: getattr(args, name)})  # type: ignore[type-var]
    _check_regularisation(args, cfg, {**vars(training), **values})
    return model, replace(training, **values)


def with_loss(training: TrainingOptions, name: str) -> TrainingOptions:
    """The training with another adversarial loss, and with what belongs to it.

    `wgan` clips D's weights and `wgan-gp` has the gradient penalty, in place of R1; the rest keeps the R1 that there
    is. A loss that the training has already changes nothing.

    Source: the constants: Arjovsky et al., "Wasserstein GAN", 2017, algorithm 1; Karras et al., "Progressive Growing of
        GANs for Improved Quality, Stability, and Variation", 2018, appendix A.
    """
    if name == loss_name(training):
        return training
    own: dict[str, Any] = {"gp_weight": 0.0, "gp_target": 1.0, "drift_weight": 0.0, "d_clip": 0.0}
    if name in ("wgan", "wgan-gp"):
        own |= {"r1_gamma": 0.0, "r2_gamma": 0.0, "r1_interval": 0}
    if name == "wgan":
        own["d_clip"] = 0.01
    if name == "wgan-gp":
        own |= {"gp_weight": 10.0, "drift_weight": 0.001}
    return replace(training, loss=name.removesuffix("-gp"), **own)


def loss_name(training: TrainingOptions) -> str:
    """What --loss calls the loss of a training."""
    return training.loss + ("-gp" if training.gp_weight else "")


def differing(args: argparse.Namespace, config: Config) -> list[str]:
    """A line for each option that was given and is not what a run has."""
    lines = []
    if args.loss not in (None, loss_name(config.training)):
        lines.append(f"  --loss: the run has {loss_name(config.training)}, got {args.loss}")
    for table, part in ((TRAINING, config.training), (MODEL, config.model)):
        for name, option in table.items():
            field = _field(part, option)
            has, got = getattr(part, field) if field else None, getattr(args, name)
            if name == "dlr" and has is None:
                has = config.training.lr
            if got is not None and got != has:
                lines.append(f"  --{name.replace('_', '-')}: the run has {has}, got {got}")
    return lines


def _check_regularisation(args: argparse.Namespace, cfg: str, training: dict[str, Any]) -> None:
    """A weight and an interval mean something only together."""
    if args.gamma is not None:
        training["r1_gamma"] = args.gamma
    for weights, names, interval, every in (
        (("r1_gamma", "r2_gamma"), ("gamma", "r2_gamma"), "r1_interval", "d_reg_every"),
        (("pl_weight",), ("pl_weight",), "pl_interval", "g_reg_every"),
    ):
        given = [name for name in names if getattr(args, name)]
        options = [f"--{name.replace('_', '-')}" for name in (*names, every)]
        if given and not training[interval]:
            what = f"--{given[0].replace('_', '-')} weighs what --cfg {cfg} does not compute with this loss"
            raise ValueError(f"{what}: give {options[-1]} as well")
        if getattr(args, every) and not any(training[weight] for weight in weights):
            raise ValueError(f"{options[-1]} is the interval of what has no weight: give {' or '.join(options[:-1])}")


def _field(part: Any, option: Override) -> str | None:
    return next((field for field in option.fields if hasattr(part, field)), None)


def _with_g_lr(training: TrainingOptions, lr: float) -> TrainingOptions:
    """G with another learning rate, at each resolution in proportion; D's stays."""
    d_lr = training.d_lr or training.lr
    growth = training.growth
    if growth is not None:
        growth = replace(growth, lr={size: value * lr / training.lr for size, value in growth.lr.items()})
    return replace(training, lr=lr, d_lr=d_lr, growth=growth)
