"""What the options of several commands mean."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def add_generator_options(parser: argparse.ArgumentParser) -> None:
    """Adds what every tool for a trained generator takes."""
    add = parser.add_argument
    add("checkpoint", metavar="CKPT", type=Path, help="a run folder, or any checkpoint, also of other projects")
    add("--trunc", type=float, default=1.0, metavar="PSI", help="truncation: 1 for full variety, 0.7 for safety [1]")
    add("--trunc-cutoff", type=int, metavar="N", help="truncate the first N styles alone, the coarse ones [all]")
    add("--noise-mode", choices=("const", "random", "none"), help="noise of StyleGAN's layers [const]")
    add("--device", help="cpu, cuda, ... [cuda if there is one]")


def output_folder(path: Path) -> Path:
    """The folder of --outdir, made if it is not there.

    Raises:
        ValueError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--outdir {path}: cannot make this folder ({error.strerror})") from error
    return path


def device_of(name: str | None) -> torch.device:
    """The device of --device; without it the GPU, if there is one.

    Raises:
        ValueError: It is none of cpu, cuda, cuda:0, ..., or this machine has none.
    """
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ValueError(f"--device must be cpu, cuda or cuda:N, got {name}")
    device = torch.device(name)
    found = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= found:
        raise ValueError(f"--device {name}: this PyTorch sees {found or 'no'} CUDA device{'s' if found > 1 else ''}")
    return device


def boolean(text: str) -> bool:
    """0 or 1, in any of the ways that people write them."""
    values = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"expected 0 or 1, got {text}")
    return values[text.lower()]


def seed_list(text: str) -> list[int]:
    """Numbers and ranges, e.g. 0,1,4-7."""
    try:
        ranges = [[int(n) for n in part.split("-")] for part in text.split(",")]
        seeds = [seed for first, *last in ranges for seed in range(first, (last or [first])[0] + 1)]
    except ValueError:
        seeds = []
    if not seeds or max(seeds) >= 1 << 63:
        raise argparse.ArgumentTypeError(f"expected numbers and ranges such as 0,1,4-7, got {text}")
    return seeds
