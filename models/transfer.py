"""Transfer learning: a run that begins with the weights of another, or of anybody's published checkpoint."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from .config import Config
    from .convert.checkpoint import Checkpoint
    from .training.options import TrainingOptions
    from .training.state import TrainingState

NAMED = 4  # how many tensors a line names
COMPUTING = ("precision", "channels_last", "num_fp16_res", "conv_clamp")  # options that change no tensor's shape


def is_snapshot(path: Path) -> bool:
    """Whether a file is a snapshot of a run of this package, which can be resumed; its name tells, or its content."""
    import torch

    from .training.checkpoint import PATTERN

    if fnmatch(path.name, PATTERN):
        return True
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # other formats fail in many ways
        return False
    return isinstance(content, dict) and {"config", "state", "sha256"} <= content.keys()


def accept_as_resume(args: argparse.Namespace) -> None:
    """Takes `--resume FILE` for `--transfer FILE`, as which the published tools mean it, if it is no run's snapshot.

    Raises:
        ValueError: Both were given, or layers are to be frozen that have learned nothing.
    """
    if args.resume and args.transfer:
        raise ValueError("--resume goes on with a run, --transfer begins one: expected one of them, got both")
    if args.resume and Path(args.resume).is_file() and not is_snapshot(Path(args.resume)):
        args.resume, args.transfer = None, args.resume
        print(
            f"--resume {args.transfer}: no snapshot of a run to go on with, so --transfer: a new run with its weights"
        )
    if args.freezed and not args.resume and not args.transfer:
        raise ValueError("--freezed keeps layers as they are, which need to have learned something: give --transfer")


def begin_with(path: str, config: Config, state: TrainingState) -> None:
    """Gives a run's networks the weights of a checkpoint, and prints what came and what did not."""
    from . import convert
    from .training.checkpoint import latest_snapshot

    file = latest_snapshot(Path(path)) or Path(path)  # of a run's folder the newest
    checkpoint = convert.load(file)
    print(f"transfer {file}: {checkpoint.source}, {checkpoint.family}")
    for line in transfer(checkpoint, config.family, config.model, state):
        print(f"  {line}")


def options_for_transfer(training: TrainingOptions) -> TrainingOptions:
    """The options with which trained networks go on: nothing is grown, and the average follows from the first step.

    ADA adapts five times as fast, for the run is short.

    Source: no ramp-up of the average, and ADA's speed: the published training of Karras et al., "Training Generative
        Adversarial Networks with Limited Data", 2020, appendix C.
    """
    growth = training.growth
    if growth is not None:
        growth = replace(growth, first_resolution=growth.last_resolution)
    return replace(training, growth=growth, ema_rampup=None, ema_start=0, ada_kimg=100.0)


def transfer(checkpoint: Checkpoint, family: str, model: Any, state: TrainingState) -> list[str]:
    """Copies every tensor of a checkpoint that has the name and shape of one of the run's, into G, D and G_ema.

    A checkpoint with one generator gives it to G and to G_ema. What fits nowhere stays as it was initialised.

    Args:
        checkpoint: Of any project, as `gankern.models.convert.load` reads it.
        family: The run's family of networks.
        model: The run's options of its networks.
        state: The run's, before its first step; changed in place.

    Returns:
        Lines that say what was copied, and what was not.

    Raises:
        ValueError: The networks are of another family, or no weight fits.
    """
    if checkpoint.family != family:
        raise ValueError(f"--transfer: the file holds networks of {checkpoint.family}, the run trains {family}")
    found = checkpoint.networks()
    generator = found.get("G") or found.get("G_ema")
    sources = {"G": generator, "D": found.get("D"), "G_ema": found.get("G_ema") or generator}
    lines: list[str] = []
    learned = 0
    for name, source in sources.items():
        if source is None:
            lines.append(f"{name:10}fresh: the file has none")
            continue
        copied, fresh = _copy(source, getattr(state, name))
        learned += sum(key in copied for key, value in source.named_parameters() if value.ndim > 1)
        lines.append(f"{name:10}{len(copied)} of {len(copied) + len(fresh)} tensors copied{_named(fresh)}")
    differing = [
        f"{option} {theirs} in the file, {ours} in the run"
        for option, theirs in asdict(checkpoint.model).items()  # type: ignore[call-overload]
        if option not in COMPUTING and (ours := getattr(model, option)) != theirs
    ]
    if learned == 0:
        raise ValueError(f"--transfer: no weight of the file's networks fits the run's: {'; '.join(differing)}")
    return [*lines, *(f"networks  {line}" for line in differing)]


def _copy(source: nn.Module, target: nn.Module) -> tuple[set[str], list[str]]:
    """Copies what fits; returns the names of the target's tensors that were copied, and those that were not."""
    import torch

    theirs, ours = source.state_dict(), target.state_dict()
    copied = {key for key, value in ours.items() if key in theirs and theirs[key].shape == value.shape}
    with torch.no_grad():
        for key in copied:
            ours[key].copy_(theirs[key])
    return copied, [key for key in ours if key not in copied]


def _named(fresh: list[str]) -> str:
    if not fresh:
        return ""
    more = f" and {len(fresh) - NAMED} more" if len(fresh) > NAMED else ""
    return f"; fresh: {', '.join(fresh[:NAMED])}{more}"
