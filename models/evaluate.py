"""`gankern evaluate`: measures a trained generator; and the same during training."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import device_of
from .bar import Bar

if TYPE_CHECKING:
    import torch

    from .metrics.collecting import Options
    from .training.images import ImageData
    from .training.state import TrainingState

EXAMPLES = """examples:
  gankern evaluate runs/00000-digits-cond --num-fake 4096         SWD and MS-SSIM: no weights needed
  gankern evaluate RUN --metrics fid,kid --inception inception-2015-12-05.pt
  gankern evaluate RUN --metrics pr,dc --vgg vgg16.pt --data faces.zip
  torchrun --nproc-per-node 8 -m gankern.models.cli evaluate RUN --metrics fid --inception FILE

Nothing is downloaded. Definitions, and the files that some metrics need: docs/metrics.md
"""
SMALLEST = {"swd": 16, "ms-ssim": 16}  # pixels that an image must have on each side


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("checkpoint", metavar="CKPT", type=Path, help="a run folder, or any checkpoint, also of other projects")
    add_metric_options(parser)
    add("--data", help="real images, as for train [those of the run]")
    add("--batch", type=int, default=64, help="images at a time, even [64]")
    add("--seed", type=int, default=0, help="of latents, labels, noise and patches [0]")
    add("--trunc", type=float, default=1.0, help="truncation psi; published figures have 1 [1]")
    add("--json", type=Path, metavar="FILE", help="write the values there too")
    add("--device", help="cpu, cuda, ... [cuda if there is one]")


def add_metric_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Adds the options that `evaluate` and `train` have in common, and returns their group."""
    group = parser.add_argument_group("metrics", "definitions and files: docs/metrics.md")
    add = group.add_argument
    add(
        "--metrics",
        default="swd,ms-ssim",
        help="of swd, ms-ssim, fid, kid, is, pr, dc, ppl-{z,w}{full,end} [swd,ms-ssim]",
    )
    add("--num-fake", type=int, metavar="N", help="generated images [each metric's published number]")
    add("--num-real", type=int, metavar="N", help="real images for fid, kid, pr and dc [all]")
    add(
        "--inception",
        type=Path,
        metavar="FILE",
        help="for fid, kid, is: inception-2015-12-05.pt, or torch-fidelity's .pth",
    )
    add("--vgg", type=Path, metavar="FILE", help="for pr, dc: vgg16.pt, or torchvision's .pth with torch-fidelity")
    add("--lpips", type=Path, metavar="FILE", help="for ppl: vgg16.pt")
    add("--cache", metavar="DIR|none", help="folder for what is measured of real images [~/.cache/gankern]")
    return group


def run(args: argparse.Namespace) -> int:
    """Loads, measures, prints one line per value."""
    from .join import joined

    with joined(device_of(args.device), "evaluate") as device:
        return _measure(args, device)


def _measure(args: argparse.Namespace, device: torch.device) -> int:
    from .metrics.evaluation import evaluate
    from .ranks import rank
    from .trained import load_generator
    from .training.data import open_data

    checkpoint, G_ema = load_generator(args.checkpoint, device)
    source, cond = args.data, checkpoint.model.c_dim > 0
    if source is None:
        if checkpoint.data is None:
            raise ValueError(f"--data must say which real images to compare with, which {args.checkpoint} does not")
        source, cond = checkpoint.data.source, checkpoint.data.cond
    data = open_data(source, cond)
    options = replace(_options(args), batch=args.batch, seed=args.seed, truncation_psi=args.trunc)
    if rank() == 0:
        options = replace(options, report=Bar())
    start = time.perf_counter()
    values = evaluate(G_ema, data, args.metrics.split(","), options)
    if rank() == 0:
        print(f"{args.checkpoint} against {data.name}, {time.perf_counter() - start:.1f} s")
        for name, value in values.items():
            print(f"{name:>20}  {value:.5g}")
        if args.json:
            args.json.write_text(json.dumps({"snapshot": str(args.checkpoint), **values}, indent=2) + "\n")
    return 0


def measuring(args: argparse.Namespace, state: TrainingState, data: ImageData) -> Callable[[Path, int], None]:
    """What training calls after each tick with run folder and number: measures at every `--metric-every` of them.

    The values go into the run folder, and from there into the report. Training's random numbers stay what they are.
    While networks grow, images too small for a metric are not measured by it, others against real ones of their size.

    Raises:
        ValueError: A metric is unknown or does not suit the images.
        FileNotFoundError: A metric needs a weights file that is not there.
    """
    from .metrics.evaluation import evaluate, prepare
    from .ranks import rank
    from .training.run_folder import append_metrics

    if not args.metric_every:
        return lambda run_dir, tick: None
    metrics = args.metrics.split(",")
    for name in metrics:
        if data.resolution < SMALLEST.get(name, 1):
            raise ValueError(f"--metrics {name} needs images of {SMALLEST[name]} pixels or more, got {data.resolution}")
    options = prepare(metrics, _options(args), state.device)

    def after_tick(run_dir: Path, tick: int) -> None:
        size = state.grown[0] if state.grown else data.resolution
        suited = [name for name in metrics if size >= SMALLEST.get(name, 1)]
        if tick % args.metric_every == 0 and suited:
            values = evaluate(state.G_ema, data, suited, options)
            if rank() == 0:
                append_metrics(run_dir, state.cur_nimg, values)

    return after_tick


def _options(args: argparse.Namespace) -> Options:
    from .metrics.collecting import Options
    from .metrics.feature_cache import default_folder

    cache = None if args.cache == "none" else Path(args.cache) if args.cache else default_folder()
    files = {"inception": args.inception, "vgg": args.vgg, "lpips": args.lpips}
    return Options(num_fake=args.num_fake, num_real=args.num_real, cache=cache, **files)
