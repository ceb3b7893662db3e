"""`gankern style-mix`: images that have the coarse styles of one seed and the fine ones of another."""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import add_generator_options, device_of, output_folder, seed_list
from .bar import Bar

EXAMPLES = """The top row and the left column of grid.png show the seeds. Every other image is that of the seed at its
left, but for the layers --styles, which it has from the seed above.

examples:
  gankern style-mix RUN
  gankern style-mix ffhq.pkl --rows 85,100,75,458,1500 --cols 55,821,1789,293 --styles 0-6
  gankern style-mix biggan.pth --rows 1-4 --cols 5-8 --class 207

BigGAN has no styles, but each of its blocks gets a part of z of its own: there these parts are mixed. Other networks
without a mapping network have one z for all layers, and nothing to mix.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to its parser."""
    parser.set_defaults(run=run)
    parser.epilog = EXAMPLES
    add = parser.add_argument
    add("--rows", type=seed_list, metavar="LIST", default="0-3", help="seeds at the left, list and ranges [0-3]")
    add("--cols", type=seed_list, metavar="LIST", default="4-8", help="seeds at the top [4-8]")
    add("--styles", type=seed_list, metavar="LIST", help="layers from --cols, 0 is the coarsest [first 7 of 18: 0-6]")
    add("--class", type=seed_list, dest="classes", metavar="LIST", help="classes of rows and columns in turn [0,1,...]")
    add("--outdir", type=Path, default=Path("mixed"), help="folder for the images [mixed]")
    add_generator_options(parser)


def run(args: argparse.Namespace) -> int:
    """Writes each mixed image, each source, and a grid of all."""
    import torch

    from .trained import Trained, mix
    from .training.pictures import present, tile
    from .training.png import write_png

    trained = Trained.load(args.checkpoint, device_of(args.device))
    if trained.num_layers == 1:
        raise ValueError(f"style mixing does not apply: this {trained.family} has one z for all layers")
    noise_mode = trained.noise_mode(args.noise_mode)
    styles = args.styles or list(range(max(round(trained.num_layers * 7 / 18), 1)))
    if max(styles) >= trained.num_layers:
        raise ValueError(f"--styles must be below the number of layers = {trained.num_layers}, got {max(styles)}")
    seeds = args.rows + args.cols
    c = trained.labels(args.classes, len(seeds))
    sources = trained.codes(trained.latents(seeds), c, args.trunc, args.trunc_cutoff)
    outdir = output_folder(args.outdir)
    rows, columns = len(args.rows), len(args.cols)
    mixed = mix(sources[:rows], sources[rows:], styles)  # one row after the other
    torch.manual_seed(args.rows[0])  # of random noise
    bar = Bar()
    edges = torch.cat(list(trained.draw_in_parts(sources, noise_mode)))  # [rows + columns, C, H, W]
    parts = trained.draw_in_parts(mixed, noise_mode, lambda done, total: bar("images", done, total))
    inside = torch.cat(list(parts))  # [rows * columns, C, H, W]
    for seed, image in zip(seeds, edges, strict=True):
        write_png(outdir / f"{seed}.png", tile(image[None], 1))
    for i, image in enumerate(inside):
        write_png(outdir / f"{args.rows[i // columns]}-{args.cols[i % columns]}.png", tile(image[None], 1))
    corner = torch.full_like(edges[:1], -0.6)
    table = [torch.cat([corner, edges[rows:]])]
    table += [torch.cat([edges[r : r + 1], inside[r * columns : (r + 1) * columns]]) for r in range(rows)]
    grid = outdir / "grid.png"
    write_png(grid, tile(present(torch.cat(table)), columns + 1))
    print(f"{len(inside)} images in {outdir}, all of them in {grid}: layers {_ranges(styles)} are those of the top row")
    return 0


def _ranges(numbers: list[int]) -> str:
    """0,1,2,5 as 0-2,5."""
    runs: list[list[int]] = []
    for n in sorted(set(numbers)):
        if runs and runs[-1][1] == n - 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
