"""The options of `gankern train` for augmentation."""

from __future__ import annotations

import argparse

# Option -> its name among the training options, and the kinds of augmentation that read it.
AUGMENT_TRAINING = {
    "aug": "aug",
    "p": "augment_p",
    "target": "ada_target",
    "ada_kimg": "ada_kimg",
    "augpipe": "augpipe",
    "policy": "policy",
}
READ_BY = {"p": ("fixed",), "target": ("ada",), "ada_kimg": ("ada",), "augpipe": ("ada", "fixed")}
READ_BY |= {"policy": ("diffaugment",)}


def add_augment_options(parser: argparse.ArgumentParser) -> None:
    """Adds the group of options to a parser."""
    add = parser.add_argument_group("augmentation", "of all images that D sees: docs/augmentation.md").add_argument
    add("--aug", choices=("noaug", "ada", "fixed", "diffaugment"), help="adaptive, of fixed strength, ... [from cfg]")
    add("--augpipe", metavar="PIPE", help="ada, fixed: blit, geom, color, filter, noise, cutout, bg, bgc ... [bgc]")
    add("--p", type=float, help="fixed: the probability of each transform")
    add("--target", type=float, help="ada: mean sign of D's scores of real images to aim at [0.6]")
    add("--ada-kimg", type=float, metavar="KIMG", help="ada: thousands of images in which p can go from 0 to 1 [500]")
    add("--policy", help="diffaugment: of color, translation, cutout [color,translation,cutout]")


def check_augment_options(args: argparse.Namespace, aug: str) -> None:
    """An option that nothing reads is a mistake.

    Raises:
        ValueError: One was given that the chosen augmentation does not read.
    """
    for name, kinds in READ_BY.items():
        if getattr(args, name) is not None and aug not in kinds:
            raise ValueError(f"--{name.replace('_', '-')} must go with --aug {' or '.join(kinds)}, got --aug {aug}")
