"""`gankern evaluate`: measures a trained generator."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import device_of

if TYPE_CHECKING:
    import torch

EXAMPLES = """examples:
  gankern evaluate runs/00000-digits-cond --num-fake 4096                        SWD and MS-SSIM: no weights needed
  gankern evaluate RUN --metrics fid,kid --inception inception-2015-12-05.pt
  gankern evaluate RUN --metrics pr,dc --vgg vgg16.pt --data faces.zip
  torchrun --nproc-per-node 8 -m gankern.models.cli evaluate RUN --metrics fid --inception ...

Metrics, their definitions and the files they need: docs/metrics.md. Nothing is downloaded.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to its parser."""
    parser.set_defaults(run=run)
    parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("checkpoint", metavar="CKPT", help="a snapshot, or a run folder for its newest one")
    add(
        "--metrics",
        default="swd,ms-ssim",
        help="any of swd, ms-ssim, fid, kid, is, pr, dc, ppl-{z,w}{full,end} [swd,ms-ssim]",
    )
    add("--data", help="real images, as for train [those of the run]")
    add("--num-fake", type=int, help="generated images [each metric's published number]")
    add("--num-real", type=int, help="real images for fid, kid, pr and dc [all]")
    add("--batch", type=int, default=64, help="images at a time, even [64]")
    add("--seed", type=int, default=0, help="of latents, labels, patches, subsets [0]")
    add("--trunc", type=float, default=1.0, help="truncation psi; published figures have 1 [1]")
    add(
        "--inception",
        type=Path,
        metavar="FILE",
        help="for fid, kid, is: inception-2015-12-05.pt, or torch-fidelity's .pth",
    )
    add("--vgg", type=Path, metavar="FILE", help="for pr, dc: vgg16.pt, or torchvision's .pth with torch-fidelity")
    add("--lpips", type=Path, metavar="FILE", help="for ppl: vgg16.pt")
    add("--cache", default="", metavar="DIR|none", help="folder for the real images' features [~/.cache/gankern]")
    add("--json", type=Path, metavar="FILE", help="write the values there too")
    add("--device", help="cpu, cuda, ... [cuda if there is one]")


def run(args: argparse.Namespace) -> int:
    """Loads, measures, prints one line per value."""
    from .metrics.ranks import joined

    with joined(device_of(args.device)) as device:
        return _measure(args, device)


def _measure(args: argparse.Namespace, device: torch.device) -> int:
    from .metrics.evaluation import Options, evaluate
    from .metrics.feature_cache import default_folder
    from .metrics.ranks import rank
    from .sample import load_generator
    from .training.data import open_data
    from .training.run_folder import find_snapshot

    snapshot = find_snapshot(args.checkpoint, Path())
    config, G_ema = load_generator(snapshot, device)
    data = open_data(args.data or config.data.source, config.data.cond)
    options = Options(
        num_fake=args.num_fake,
        num_real=args.num_real,
        batch=args.batch,
        seed=args.seed,
        truncation_psi=args.trunc,
        inception=args.inception,
        vgg=args.vgg,
        lpips=args.lpips,
        cache=None if args.cache == "none" else Path(args.cache) if args.cache else default_folder(),
        report=Bar() if rank() == 0 else silent,
    )
    start = time.perf_counter()
    values = evaluate(G_ema, data, args.metrics.split(","), options)
    if rank() == 0:
        print(f"{snapshot} against {data.name}, {time.perf_counter() - start:.1f} s")
        for name, value in values.items():
            print(f"{name:>20}  {value:.5g}")
        if args.json:
            args.json.write_text(json.dumps({"snapshot": str(snapshot), **values}, indent=2) + "\n")
    return 0


def silent(what: str, done: int, total: int) -> None:
    """The progress report of those who do not report."""


class Bar:
    """Draws progress on stderr: a bar that fills on a terminal, one line per stage in a log file."""

    WIDTH = 30

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self.what = ""
        self.start = time.perf_counter()

    def __call__(self, what: str, done: int, total: int) -> None:
        if what != self.what:
            self.what, self.start = what, time.perf_counter()
        if not self.terminal and done < total:
            return
        filled = self.WIDTH * done // total
        bar = "#" * filled + "." * (self.WIDTH - filled)
        line = f"{what:>16} {bar} {done}/{total}  {time.perf_counter() - self.start:.1f} s"
        print(
            f"\r{line}\x1b[K" if self.terminal else line,
            end="" if self.terminal and done < total else "\n",
            file=sys.stderr,
            flush=True,
        )
