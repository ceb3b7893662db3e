"""`gankern sample`: images from a trained model."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import device_of, seed_list

if TYPE_CHECKING:
    import torch

    from .convert import Checkpoint
    from .training.state import Generator


def add_options(sample: argparse.ArgumentParser) -> None:
    """Adds the command's options to its parser."""
    sample.set_defaults(run=run)
    add = sample.add_argument
    add("checkpoint", metavar="CKPT", type=Path, help="a run folder, or any checkpoint, also of other projects")
    add("--seeds", type=seed_list, default="0-15", help="list and ranges, e.g. 0,1,4-7 [0-15]")
    add("--trunc", type=float, default=1.0, help="truncation: 1 for full variety, 0.7 for safer images [1]")
    add("--class", type=int, dest="class_idx", metavar="K", help="class to show [every class, for each seed]")
    add("--outdir", type=Path, default=Path("samples"), help="folder for the images [samples]")
    add("--device", help="cpu, cuda, ... [cuda if there is one]")


def run(args: argparse.Namespace) -> int:
    """Writes one PNG per seed (and class), and a grid of all."""
    import torch

    from .training.pictures import generate, present, tile
    from .training.png import write_png

    device = device_of(args.device)
    checkpoint, G_ema = load_generator(args.checkpoint, device)
    model = checkpoint.model
    classes = _classes(args.class_idx, model.c_dim)
    if args.trunc != 1 and checkpoint.family == "progan":
        raise ValueError(f"--trunc must be 1 for ProGAN, which gives every latent the same length, got {args.trunc:g}")
    args.outdir.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in args.seeds:
        z = latent(G_ema, seed, args.trunc).to(device)
        c = torch.eye(model.c_dim, device=device)[classes] if classes else torch.zeros(1, 0, device=device)
        with torch.no_grad():
            psi = args.trunc if hasattr(G_ema, "mapping") else 1.0
            img = generate(G_ema, z.repeat(len(c), 1), c, psi)  # [classes, C, h, w]
        for k, one in enumerate(img):
            suffix = f"-class{classes[k]}" if classes else ""
            write_png(args.outdir / f"seed{seed:04d}{suffix}.png", tile(one[None], 1))
        rows.append(img)
    grid = args.outdir / "grid.png"
    write_png(grid, tile(present(torch.cat(rows)), len(rows[0])))
    print(f"{len(rows) * len(rows[0])} images in {args.outdir}, all of them in {grid} (one row per seed)")
    return 0


def load_generator(path: Path, device: torch.device) -> tuple[Checkpoint, Generator]:
    """A checkpoint, and its averaged generator or, where there is none, its plain one."""
    from . import convert
    from .training.standing import with_standing_statistics

    checkpoint = convert.load(path)
    G = checkpoint.G_ema or checkpoint.G
    if G is None:
        raise ValueError(f"{path} has no generator, only {', '.join(checkpoint.networks())}")
    if checkpoint.model.precision == "fp16" and device.type == "cpu":
        G = in_fp32(checkpoint, G)
    G = G.to(device).eval()
    if checkpoint.training is not None:
        G = with_standing_statistics(G, checkpoint.training.standing_batches, checkpoint.training.batch)
    return checkpoint, G


def in_fp32(checkpoint: Checkpoint, G: Generator) -> Generator:
    """The same generator where every layer computes in fp32, on its device and in evaluation mode."""
    from .config import FAMILIES

    wanted = {"num_fp16_res": 0, "precision": "fp32"}
    options: Any = checkpoint.model
    options = replace(options, **{name: value for name, value in wanted.items() if hasattr(options, name)})
    other: Generator = FAMILIES[checkpoint.family].build(options)[0]
    other.load_state_dict(G.state_dict())
    if hasattr(G, "grow"):
        other.grow(G.resolution, G.fading)
    return other.to(next(G.parameters()).device).eval()


def latent(G: Generator, seed: int, truncation: float) -> torch.Tensor:
    """z [1, z_dim]; where there are no styles to truncate it is itself truncated, to 2 * truncation, if that is not 1.

    Source: Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis", 2019, section 3.1; with
        the standard deviation and the threshold of the generators published with it.
    """
    import torch

    from .training.latents import truncated_latents

    generator = torch.Generator().manual_seed(seed)
    if truncation == 1 or hasattr(G, "mapping"):
        return torch.randn(1, G.z_dim, generator=generator)
    return truncated_latents(1, G.z_dim, 2 * truncation, truncation, generator)


def _classes(class_idx: int | None, c_dim: int) -> list[int]:
    if class_idx is not None and not 0 <= class_idx < c_dim:
        raise ValueError(f"--class must be below the model's number of classes = {c_dim}, got {class_idx}")
    return list(range(c_dim)) if class_idx is None else [class_idx]
