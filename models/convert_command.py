"""`gankern convert`: a checkpoint of one project as that of another."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_options(convert: argparse.ArgumentParser) -> None:
    convert.set_defaults(run=run)
    add = convert.add_argument
    add("source", metavar="IN", type=Path, help="a checkpoint of any known kind, or a folder of one in parts")
    add("target", metavar="OUT", type=Path, help="the file (or folder, where the format has several files) to write")
    add(
        "--to",
        default="gankern",
        metavar="FORMAT",
        help="gankern, which is safetensors, or another project's [gankern]",
    )
    add("--which", metavar="G|D|G_ema", help="convert that network alone [all]")


def run(args: argparse.Namespace) -> int:
    """Converts, and says what was found."""
    from . import convert

    checkpoint = convert.load(args.source, which=args.which)
    convert.save(checkpoint, args.target, args.to)
    networks = checkpoint.networks()
    size = checkpoint.model.img_resolution
    print(f"{args.source}: {checkpoint.source}, {checkpoint.family} {size}x{size}, {', '.join(networks)}")
    for note in checkpoint.notes:
        print(f"note: {note}")
    print(f"{args.target}: {args.to}")
    return 0
