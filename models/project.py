"""`gankern project`: finds the code from which a generator draws an image as near as possible to a given one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import boolean, device_of, output_folder
from .bar import Bar

if TYPE_CHECKING:
    from torch import Tensor

    from .perceptual import Embedding
    from .trained import Trained

FRAMES = 120  # of the video, at most
EXAMPLES = """examples:
  gankern project RUN --target photo.png
  gankern project ffhq.pkl --target face.jpg --vgg vgg16.pt       as published; vgg16.pt is NVIDIA's, never downloaded
  gankern sample RUN --projected-w projected/projected_w.npz      draws the result again

The target is cut to the model's shape and size. Of networks without a mapping z is optimised instead of w.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to its parser."""
    parser.set_defaults(run=run)
    parser.epilog = EXAMPLES
    add = parser.add_argument
    add("checkpoint", metavar="CKPT", type=Path, help="a run folder, or any checkpoint, also of other projects")
    add("--target", type=Path, required=True, metavar="FILE", help="the image to find")
    add("--num-steps", type=int, metavar="N", default=1000, help="optimisation steps [1000]")
    add("--seed", type=int, default=303, help="of the random numbers [303]")
    add("--class", type=int, dest="class_idx", metavar="K", help="the image's class [that of the nearest sample]")
    add("--vgg", type=Path, metavar="FILE", help="compare by LPIPS, as published, with NVIDIA's vgg16.pt")
    add(
        "--distance",
        choices=("pixels", "discriminator"),
        help="without --vgg: compare pixels at every scale, or what the checkpoint's discriminator sees [pixels]",
    )
    add("--save-video", type=boolean, default=True, metavar="0|1", help="write the way as proj.mp4 or .webp [1]")
    add("--outdir", type=Path, default=Path("projected"), help="folder for the results [projected]")
    add("--device", help="cpu, cuda, ... [cuda if there is one]")


def run(args: argparse.Namespace) -> int:
    """Writes target.png, proj.png, projected_w.npz and the video."""
    import torch

    from .projection import codes_of, project, write_projection
    from .trained import Trained, in_fp32, load_generator
    from .training.pictures import tile
    from .training.png import write_png

    if args.num_steps < 1:
        raise ValueError(f"--num-steps must be at least 1, got {args.num_steps}")
    device = device_of(args.device)
    checkpoint, G = load_generator(args.checkpoint, device)
    trained = Trained(in_fp32(checkpoint, G).requires_grad_(False), checkpoint.family)
    classes = None if args.class_idx is None else [args.class_idx]
    embed = _embedding(args, checkpoint, trained.labels(classes, 1))
    with torch.no_grad():
        shape = trained.draw(trained.codes(trained.latents([0]), trained.labels(classes, 1))).shape[1:]
    target = read_target(args.target, shape).to(device)
    outdir = output_folder(args.outdir)
    torch.manual_seed(args.seed)
    c = trained.labels(classes, 1) if classes or not trained.G.c_dim else None
    way, c = project(trained, embed, target, c, args.num_steps, Bar())
    found = codes_of(trained, way[-1:], c)
    with torch.no_grad():
        image = trained.draw(found)
        distances = (embed(trained.draw(codes_of(trained, x, c))) - embed(target) for x in (way[:1], way[-1:]))
        first, last = (float(difference.square().sum()) for difference in distances)
    write_png(outdir / "target.png", tile(target, 1))
    write_png(outdir / "proj.png", tile(image, 1))
    result = write_projection(outdir, trained, found)
    if args.save_video:
        _write_video(outdir, trained, way, c, target)
    print(f"{result}: the distance fell from {first:.4g} to {last:.4g}; {outdir / 'proj.png'} is what it draws")
    return 0


def read_target(path: Path, shape: Sequence[int]) -> Tensor:
    """An image file, cut to the middle and resized: [1, C, H, W], -1 to 1.

    Args:
        path: The file.
        shape: (C, H, W).

    Raises:
        ValueError: It is not there, or no image.
        ModuleNotFoundError: Pillow is not installed.
    """
    import numpy as np
    import torch

    from .training.images import to_float

    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("--target needs Pillow: pip install 'gankern[train]'") from error
    channels, height, width = shape
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
    except FileNotFoundError as error:
        raise ValueError(f"--target: no file {path}") from error
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"--target: {path} is not an image that Pillow reads ({error})") from error
    pixels = np.array(ImageOps.fit(upright, (width, height), Image.Resampling.LANCZOS))
    return to_float(torch.from_numpy(np.atleast_3d(pixels)).permute(2, 0, 1)[None])


def _embedding(args: argparse.Namespace, checkpoint: Any, c: Tensor) -> Embedding:
    from .perceptual import of_discriminator, of_vgg, pyramid
    from .trained import in_fp32

    if args.vgg is not None and args.distance is not None:
        raise ValueError("--vgg and --distance exclude each other: both say how images are compared")
    if args.vgg is not None:
        return of_vgg(args.vgg, c.device)
    if args.distance == "discriminator" and checkpoint.D is None:
        raise ValueError(f"--distance discriminator: {args.checkpoint} has none; use --distance pixels or --vgg")
    if args.distance != "discriminator":
        return pyramid
    D = in_fp32(checkpoint, checkpoint.D).to(c.device).eval().requires_grad_(False)
    return of_discriminator(D, c)


def _write_video(outdir: Path, trained: Trained, way: Tensor, c: Tensor, target: Tensor) -> None:
    """The target and beside it the image at steps that are evenly spread."""
    import shutil

    import torch

    from .interpolate import SMALLEST
    from .projection import codes_of
    from .training.pictures import enlarge, tile
    from .video import write_video

    path = outdir / ("proj.mp4" if shutil.which("ffmpeg") else "proj.webp")
    steps = torch.linspace(0, len(way) - 1, min(FRAMES, len(way))).long()
    images = (image for part in trained.draw_in_parts(codes_of(trained, way[steps], c)) for image in part)
    frames = (tile(enlarge(torch.cat([target.cpu(), image[None]]), SMALLEST), 2) for image in images)
    write_video(path, frames, fps=24)
