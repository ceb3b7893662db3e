"""`gankern sample`: images from a trained model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import device_of, seed_list

if TYPE_CHECKING:
    import torch

    from .config import Config
    from .training.state import Generator


def add_options(sample: argparse.ArgumentParser) -> None:
    sample.set_defaults(run=run)
    add = sample.add_argument
    add("checkpoint", metavar="CKPT", help="a snapshot, or a run folder for its newest one")
    add("--seeds", type=seed_list, default="0-15", help="list and ranges, e.g. 0,1,4-7 [0-15]")
    add("--trunc", type=float, default=1.0, help="truncation psi: 1 for full variety, 0.7 for safer images [1]")
    add("--class", type=int, dest="class_idx", metavar="K", help="class to show [every class, for each seed]")
    add("--outdir", type=Path, default=Path("samples"), help="folder for the images [samples]")
    add("--device", help="cpu, cuda, ... [cuda if there is one]")


def run(args: argparse.Namespace) -> int:
    """Writes one PNG per seed (and class), and a grid of all."""
    import torch

    from .training.pictures import generate, present, tile
    from .training.png import write_png
    from .training.run_folder import find_snapshot

    device = device_of(args.device)
    config, G_ema = load_generator(find_snapshot(args.checkpoint, Path()), device)
    classes = _classes(args.class_idx, config.model.c_dim)
    args.outdir.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in args.seeds:
        z = torch.randn(1, config.model.z_dim, generator=torch.Generator().manual_seed(seed)).to(device)
        c = torch.eye(config.model.c_dim, device=device)[classes] if classes else torch.zeros(1, 0, device=device)
        with torch.no_grad():
            img = generate(G_ema, z.repeat(len(c), 1), c, args.trunc)  # [classes, C, h, w]
        for k, one in enumerate(img):
            suffix = f"-class{classes[k]}" if classes else ""
            write_png(args.outdir / f"seed{seed:04d}{suffix}.png", tile(one[None], 1))
        rows.append(img)
    grid = args.outdir / "grid.png"
    write_png(grid, tile(present(torch.cat(rows)), len(rows[0])))
    print(f"{len(rows) * len(rows[0])} images in {args.outdir}, all of them in {grid} (one row per seed)")
    return 0


def load_generator(snapshot: Path, device: torch.device) -> tuple[Config, Generator]:
    from .config import Config, build_networks
    from .training.checkpoint import load_snapshot

    state, saved = load_snapshot(snapshot)
    config = Config.from_json(saved)
    G_ema: Generator = build_networks(config)[0]
    G_ema.load_state_dict(state["G_ema"])
    if state.get("grown") is not None:
        G_ema.grow(*state["grown"])
    return config, G_ema.to(device).eval()


def _classes(class_idx: int | None, c_dim: int) -> list[int]:
    if class_idx is not None and not 0 <= class_idx < c_dim:
        raise ValueError(f"--class must be below the model's number of classes = {c_dim}, got {class_idx}")
    return list(range(c_dim)) if class_idx is None else [class_idx]
