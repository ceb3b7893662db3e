"""`gankern interpolate`: a video that goes from image to image and comes back to the first."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import add_generator_options, device_of, seed_list
from .bar import Bar

if TYPE_CHECKING:
    import numpy as np

    from .trained import Codes, Trained

TOGETHER = 16  # frames that are drawn together, where they are small enough
SMALLEST = 128  # width of a frame's images in pixels; smaller ones are enlarged
EXAMPLES = """examples:
  gankern interpolate RUN                                    8 images, back to the first: loop.webp
  gankern interpolate RUN --class 0-9 --seeds 7,7,7,7,7,7,7,7,7,7
  gankern interpolate ffhq.pkl --seeds 0-31 --grid 4x2 --trunc 0.7 --out faces.mp4

In W the way is a smooth curve through the images' styles, a periodic cubic spline; in Z it follows great circles, and
classes fade into each other.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to its parser."""
    parser.set_defaults(run=run)
    parser.epilog = EXAMPLES
    add = parser.add_argument
    add("--seeds", type=seed_list, metavar="LIST", default="0-7", help="images to visit, list and ranges [0-7]")
    add("--grid", type=_size, default="1x1", metavar="WxH", help="videos side by side; the seeds are divided [1x1]")
    add("--w-frames", type=int, metavar="N", default=60, help="frames from image to image [60]")
    add("--space", choices=("z", "w"), help="where the way lies [w, or z for networks without a mapping]")
    add("--class", type=seed_list, dest="classes", metavar="LIST", help="classes of the seeds, in turn [0,1,...]")
    add("--fps", type=float, default=30, help="frames per second [30]")
    add("--out", type=Path, default=Path("loop.webp"), help=".webp, .gif, .mp4, or a folder for PNGs [loop.webp]")
    add_generator_options(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the video."""
    import torch

    from .closed_path import closed_path
    from .trained import Trained
    from .video import check_target, write_video

    columns, rows = args.grid
    cells = columns * rows
    if args.w_frames < 1:
        raise ValueError(f"--w-frames must be at least 1, got {args.w_frames}")
    if not args.fps > 0:
        raise ValueError(f"--fps must be positive, got {args.fps:g}")
    if len(args.seeds) % cells or len(args.seeds) == cells:
        expected = f"2, 3, ... for each of the {cells} videos of --grid" if cells > 1 else "at least 2"
        raise ValueError(f"--seeds must be {expected}, got {len(args.seeds)} seeds")
    check_target(args.out)
    trained = Trained.load(args.checkpoint, device_of(args.device))
    if args.space == "w" and not trained.has_styles:
        raise ValueError(f"--space w needs a mapping network, which a {trained.family} has not: use --space z")
    noise_mode = trained.noise_mode(args.noise_mode)
    space = args.space or ("w" if trained.has_styles else "z")
    z = trained.latents(args.seeds).unflatten(0, (cells, -1))  # [cells, K, z_dim]
    c = trained.labels(args.classes, len(args.seeds)).unflatten(0, (cells, -1))  # [cells, K, c_dim]
    at = closed_path(trained, z, c, space, args.trunc, args.trunc_cutoff)
    torch.manual_seed(args.seeds[0])  # of random noise
    total = z.shape[1] * args.w_frames
    bar = Bar()
    frames = _frames(trained, (at(i / args.w_frames) for i in range(total)), columns, noise_mode)
    write_video(args.out, bar.counting("frames", frames, total), args.fps)
    images = f"{z.shape[1]} images in a loop through {space.upper()}"
    print(f"{args.out}: {total} frames, {total / args.fps:.1f} s, {images}")
    return 0


def _frames(trained: Trained, codes: Iterator[Codes], columns: int, noise_mode: str) -> Iterator[np.ndarray]:
    """Every frame when its turn comes, uint8 [H, W, C], from the codes of each; several are drawn together."""
    import torch

    from .trained import Codes
    from .training.pictures import enlarge, tile

    while together := list(islice(codes, TOGETHER)):
        both = Codes(torch.cat([one.layers for one in together]), torch.cat([one.c for one in together]))
        images = torch.cat(list(trained.draw_in_parts(both, noise_mode)))  # [frames * cells, C, h, w]
        for frame in enlarge(images, SMALLEST).split(len(together[0])):
            yield tile(frame, columns)


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"expected WxH such as 4x2, got {text}")
    return int(found[1]), int(found[2])
