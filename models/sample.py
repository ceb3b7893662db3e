"""`gankern sample`: images from a trained model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import add_generator_options, device_of, output_folder, seed_list
from .bar import Bar

if TYPE_CHECKING:
    from .trained import Codes, Trained

EXAMPLES = """examples:
  gankern sample RUN                                            16 seeds, every class
  gankern sample ffhq.pkl --seeds 85,265,297 --trunc 0.7        the seeds of the published tools give their images
  gankern sample RUN --class 3,5 --noise-mode none
  gankern sample RUN --projected-w projected/projected_w.npz    what `gankern project` found
"""


GRID_IMAGES = 400  # in the grid at most, whole rows


def add_options(sample: argparse.ArgumentParser) -> None:
    """Adds the command's options to its parser."""
    sample.set_defaults(run=run)
    sample.epilog = EXAMPLES
    add = sample.add_argument
    add("--seeds", type=seed_list, metavar="LIST", default="0-15", help="list and ranges, e.g. 0,1,4-7 [0-15]")
    add("--class", type=seed_list, dest="classes", metavar="LIST", help="classes to show, list and ranges [all]")
    add("--projected-w", type=Path, metavar="FILE", help="instead of seeds, the result of project (.npz)")
    add("--outdir", type=Path, default=Path("samples"), help="folder for the images [samples]")
    add_generator_options(sample)


def run(args: argparse.Namespace) -> int:
    """Writes one PNG per seed (and class), and a grid of all."""
    import torch

    from .trained import Trained
    from .training.pictures import present, tile
    from .training.png import write_png

    trained = Trained.load(args.checkpoint, device_of(args.device))
    noise_mode = trained.noise_mode(args.noise_mode)
    codes, names, columns = _projected(args, trained) if args.projected_w else _of_seeds(args, trained)
    outdir = output_folder(args.outdir)
    torch.manual_seed(args.seeds[0])  # of random noise
    bar, remaining = Bar(), iter(names)
    shown: list[torch.Tensor] = []
    in_grid = max(GRID_IMAGES // columns, 1) * columns
    for part in trained.draw_in_parts(codes, noise_mode, lambda done, total: bar("images", done, total)):
        for image in part:
            write_png(outdir / f"{next(remaining)}.png", tile(image[None], 1))
        shown += part[: in_grid - len(shown)]
    grid = outdir / "grid.png"
    write_png(grid, tile(present(torch.stack(shown)), columns))
    which = "all of them" if len(shown) == len(names) else f"the first {len(shown)}"
    print(f"{len(names)} images in {outdir}, {which} in {grid}" + (" (one row per seed)" if columns > 1 else ""))
    return 0


def _of_seeds(args: argparse.Namespace, trained: Trained) -> tuple[Codes, list[str], int]:
    """For each seed all classes: the codes, their files' names and the classes' number."""
    c_dim = trained.G.c_dim
    classes = args.classes if args.classes else list(range(c_dim))
    columns = max(len(classes), 1)
    c = trained.labels(args.classes, columns).repeat(len(args.seeds), 1)  # [seeds * columns, c_dim]
    z = trained.latents(args.seeds).repeat_interleave(columns, 0)  # [seeds * columns, z_dim]
    suffixes = [f"-class{k}" for k in classes] or [""]
    names = [f"seed{seed:04d}{suffix}" for seed in args.seeds for suffix in suffixes]
    return trained.codes(z, c, args.trunc, args.trunc_cutoff), names, columns


def _projected(args: argparse.Namespace, trained: Trained) -> tuple[Codes, list[str], int]:
    """The codes of a file that `project` or the published projector wrote."""
    from .projection import read_projection

    if args.trunc != 1 or args.trunc_cutoff is not None or args.classes:
        raise ValueError("--trunc, --trunc-cutoff and --class do not apply to --projected-w, whose styles are given")
    codes = read_projection(args.projected_w, trained)
    return codes, [f"proj{i:02d}" for i in range(len(codes))], 1
