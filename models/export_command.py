"""`gankern export`: a generator as one file that other programs run."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from .convert import Checkpoint

NOISE_MODES = ("const", "none", "random")
# The same kernels give the same image; others differ by rounding, layer after layer, and must stay below what is seen:
# one of the 255 steps of a pixel. Trained networks differ by a thousandth of that; instance normalisation of the almost
# constant features of an untrained one can make it a quarter.
TOLERANCE = {"gankern": 1e-5, "plain": 2 / 255}


def add_options(export: argparse.ArgumentParser) -> None:
    """Adds the command's options to its parser."""
    export.set_defaults(run=run)
    add = export.add_argument
    add("checkpoint", metavar="CKPT", type=Path, help="a run folder, or any checkpoint, also of other projects")
    add("target", metavar="OUT", type=Path, help="file to write: .pt2 (torch.export) or .onnx")
    add(
        "--ops",
        choices=("gankern", "plain"),
        help="gankern's kernels, or plain PyTorch, which runs without gankern [gankern for .pt2]",
    )
    add("--trunc", type=float, default=1.0, help="truncation psi of the images, fixed in the file [1]")
    add("--noise-mode", choices=NOISE_MODES, default="const", help="of StyleGANs [const]")


def run(args: argparse.Namespace) -> int:
    """Writes the file, loads it back, and compares its images with the generator's own."""
    import torch

    from .export import WRITERS, Images, example_inputs, trace
    from .trained import in_fp32, load_generator

    suffix = args.target.suffix.lower()
    if suffix not in WRITERS:
        raise ValueError(f"OUT must end in {' or '.join(WRITERS)}, got {args.target}")
    ops = args.ops or ("plain" if suffix == ".onnx" else "gankern")
    if suffix == ".onnx" and ops == "gankern":
        raise ValueError("--ops must be plain for ONNX, whose runtimes have none of gankern's kernels")
    if args.trunc != 1 and not args.trunc > 0:
        raise ValueError(f"--trunc must be positive, got {args.trunc:g}")
    checkpoint, G = load_generator(args.checkpoint, torch.device("cpu"))
    if args.trunc != 1 and not hasattr(G, "mapping"):
        family = checkpoint.family
        raise ValueError(f"--trunc must be 1 for {family}, whose images are truncated in z that you pass in")
    if checkpoint.model.precision != "fp32":
        G = in_fp32(checkpoint, G)  # few runtimes have 16-bit types
    images = Images(G, args.trunc, args.noise_mode).eval().requires_grad_(False)
    exported = trace(images, ops)
    inputs = example_inputs(G, batch=3)
    img = images(*inputs)  # [3, C, H, W]; before the file is there: nothing that fails may leave one
    about = _about(checkpoint, img, ops, args.trunc, args.noise_mode)
    again = WRITERS[suffix](exported, args.target, about)
    print(f"{args.target}: {checkpoint.family}, {_inputs(G)} -> img {_shape(img)}, {ops} ops")
    if again is None:
        print("not compared with the generator's own images: that needs onnxruntime")
    elif args.noise_mode == "random":
        print("loaded back; its noise is random, so its images were not compared")
    else:
        difference = (again(*inputs) - img).abs().max().item()
        if not difference <= TOLERANCE[ops]:
            raise ValueError(
                f"{args.target} was written, but its images differ from the generator's by {difference:.1e}"
            )
        print(f"loaded back; the largest difference from the generator's own images is {difference:.1e} of [-1, 1]")
    return 0


def _about(checkpoint: Checkpoint, img: Tensor, ops: str, psi: float, noise_mode: str) -> dict[str, Any]:
    """What a reader of the file wants to know, and what would build the same networks again."""
    import gankern

    return {
        "family": checkpoint.family,
        "preset": checkpoint.preset,
        "model": asdict(checkpoint.model),  # type: ignore[call-overload]
        "image": {"shape": list(img.shape[1:]), "range": [-1, 1]},
        "ops": ops,
        "truncation_psi": psi,
        "noise_mode": noise_mode,
        "gankern": gankern.__version__,
    }


def _inputs(G: Any) -> str:
    return f"z [N, {G.z_dim}]" + (f" and c [N, {G.c_dim}]" if G.c_dim else "")


def _shape(img: Tensor) -> str:
    return f"[N, {', '.join(map(str, img.shape[1:]))}]"
