"""Images a second that the loader reads, for each kind of file and number of workers, beside what a training takes.

The files are written to a temporary folder: smooth colours with fine noise, sides of a power of two. They then lie in
the system's cache, so what is measured is decoding, checking and moving, not a disk. The first batches are not counted.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.models.iteration import RESULTS, machine
from bench.run import environment
from gankern.models.dataset.conversion import convert
from gankern.models.dataset.destinations import writing
from gankern.models.dataset.preparation import Preparation
from gankern.models.dataset.sources import Source
from gankern.models.training.data import batches, open_data

BATCH = 32
SHARDS = 4
JPEG_QUALITY = 95
SOURCES = {  # what it is, by the name of its file or folder
    "images.gankern": "packed",
    "images.zip": "zip, PNG stored",
    "png": "folder, PNG stored",
    "webdataset-png": "webdataset, PNG",
    "webdataset-jpeg": f"webdataset, JPEG {JPEG_QUALITY}",
}


def image(number: int, side: int) -> np.ndarray:
    """A smooth gradient with noise: uint8 [side, side, 3]."""
    rng = np.random.RandomState(number)
    coarse = rng.uniform(40, 215, (2, 2, 3))
    t = np.linspace(0, 1, side)
    rows = coarse[0] * (1 - t)[:, None, None] + coarse[1] * t[:, None, None]  # [side, 2, 3]
    smooth = rows[:, :1] * (1 - t)[None, :, None] + rows[:, 1:] * t[None, :, None]  # [side, side, 3]
    return (smooth + rng.normal(0, 6, smooth.shape)).round().clip(0, 255).astype(np.uint8)


def write_sources(folder: Path, count: int, side: int) -> None:
    """Writes the same images in every kind of file."""
    source = Source([f"{k}.png" for k in range(count)], lambda index: image(index, side), None)
    for name in ("images.gankern", "images.zip", "png"):
        with writing(folder / name) as destination:
            convert(source, destination, Preparation())
    for kind, options in (("png", {"compress_level": 6}), ("jpeg", {"quality": JPEG_QUALITY})):
        write_shards(folder / f"webdataset-{kind}", source, kind, options)


def write_shards(folder: Path, source: Source, kind: str, options: dict[str, Any]) -> None:
    from PIL import Image

    folder.mkdir()
    for shard in range(SHARDS):
        with tarfile.open(folder / f"shard-{shard}.tar", "w") as archive:
            for index in range(shard, len(source.names), SHARDS):
                file = io.BytesIO()
                Image.fromarray(source.load(index)).save(file, kind, **options)
                header = tarfile.TarInfo(f"{index:08d}.{kind}")
                header.size = file.tell()
                file.seek(0)
                archive.addfile(header, file)


def measure(path: Path, workers: int, budget: float) -> dict[str, Any]:
    """Opening time in milliseconds, and images a second after the first batches."""
    start = time.perf_counter()
    data = open_data(str(path))
    opened = time.perf_counter() - start
    dealt = batches(data, BATCH, workers=workers)
    for _ in range(2 + 2 * workers):
        next(dealt)
    count, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < budget:
        count += len(next(dealt)[0])
    return {"workers": workers, "open_ms": 1000 * opened, "images_per_sec": count / seconds}


def table(report: dict[str, Any]) -> str:
    rate = report["training_rate"]
    workers = report["workers"]
    lines = [
        f"| source | opens in ms | {' | '.join(f'{n} workers' for n in workers)} | fewest workers for {rate:g}/s |"
    ]
    lines.append("|---" * (3 + len(workers)) + "|")
    for kind in SOURCES.values():
        rows = [row for row in report["figures"] if row["source"] == kind]
        speeds = " | ".join(f"{row['images_per_sec']:.0f}" for row in rows)
        enough = [row["workers"] for row in rows if row["images_per_sec"] >= rate]
        opened = min(row["open_ms"] for row in rows)
        lines.append(f"| {kind} | {opened:.1f} | {speeds} | {min(enough) if enough else 'more'} |")
    side = report["side"]
    about = f"Images/s, {side}x{side} RGB, {report['count']} images in the system's cache. {machine(report)}."
    return "\n".join([*lines, "", about])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.models.loader", description=__doc__)
    parser.add_argument("--side", type=int, default=256, metavar="N", help="of the images, in pixels [256]")
    parser.add_argument("--count", type=int, default=2000, metavar="N", help="images of each source [2000]")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="[0 1 2]")
    parser.add_argument("--training-rate", type=float, default=100.0, metavar="R", help="images/s that it takes [100]")
    parser.add_argument("--budget", type=float, default=3.0, metavar="S", help="seconds for each figure [3]")
    parser.add_argument("--json", metavar="FILE", help="write every figure to bench/results/FILE")
    parser.add_argument("--table", metavar="FILE", help="measure nothing: print the table of bench/results/FILE")
    args = parser.parse_args(argv)
    if args.table:
        print(table(json.loads((RESULTS / args.table).read_text())))
        return 0
    args.device, args.quick, args.flush_l2 = "cpu", False, False
    torch.set_num_threads(1)
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        write_sources(Path(folder), args.count, args.side)
        for name, kind in SOURCES.items():
            for workers in args.workers:
                print(f"\r\033[K{kind}, {workers} workers", end="", file=sys.stderr, flush=True)
                figures.append({"source": kind, **measure(Path(folder) / name, workers, args.budget)})
    print(file=sys.stderr)
    about = {"side": args.side, "count": args.count, "workers": args.workers, "training_rate": args.training_rate}
    report = {**environment(args), **about, "figures": figures}
    print(table(report))
    if args.json:
        (RESULTS / args.json).write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
