"""`python -m bench.models.growth`: what progressive growing saves, from the time of a ProGAN step at every stage.

Karras et al., 2018, section 2: with progressive growing "comparable result quality is often obtained up to 2-6 times
faster". Here the time to show the discriminator the same number of images, growing by the published schedule against
fully grown from the start. Stages, channels and batches are the published ones (one GPU, the second version); on the
CPU batches are capped, fixed training's too. A step is that of bench.models.progan. Data are random and cost nothing.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bench.models.iteration import RESULTS, VARIANTS, Variant, machine
from bench.models.progan import PROGAN, Stage, computing, options_of
from bench.run import environment
from gankern.models.progan import Discriminator, Generator

BATCH = {4: 128, 8: 128, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4, 1024: 4}
STAGE_KIMG = 600  # images of each fade, and of the training at each resolution
TOTAL_KIMG = 12000
MEBIBYTE = 2**20


def schedule(resolution: int, total_kimg: float) -> list[tuple[int, bool, float]]:
    """(resolution, fading, kimg) of every stage until a resolution is reached and total_kimg are shown."""
    stages = [(4, False, STAGE_KIMG)]
    for res in (2**i for i in range(3, resolution.bit_length())):
        stages += [(res, True, STAGE_KIMG), (res, False, STAGE_KIMG)]
    rest = total_kimg - sum(kimg for *_, kimg in stages[:-1])
    if rest < 0:
        raise ValueError(f"bench: total_kimg must be at least what growing to {resolution} takes, got {total_kimg}")
    return [*stages[:-1], (resolution, False, rest)]


def measure(variant: Variant, resolution: int, max_batch: int, budget: float, device: str) -> list[dict[str, Any]]:
    """Every stage up to a resolution: milliseconds of a step and of an image, and the largest memory in use."""
    torch.manual_seed(0)
    sizes, options = (resolution, 3), options_of(variant)
    with torch.device(device):
        G, G_ema = (Generator(512, 0, *sizes, **options) for _ in range(2))
        D = Discriminator(0, *sizes, **options)
    G_ema.requires_grad_(False)
    figures = []
    for res, fading, _ in schedule(resolution, float("inf")):
        for net in (G, D, G_ema):
            net.grow(res, fading)
            net.alpha.fill_(0.5)
        batch = min(BATCH[res], max_batch)
        print(f"\r\033[K{res}{' fading in' if fading else ''}, batch {batch}", end="", file=sys.stderr, flush=True)
        memory = Memory(device)
        with computing(variant):
            seconds = times(Stage(G, D, G_ema, batch, device), budget, device)
        step = 1000 * statistics.median(seconds)
        figures.append(
            {
                "resolution": res,
                "fading": fading,
                "batch": batch,
                "steps": len(seconds),
                "ms_step": step,
                "ms_image": step / batch,
                "peak_bytes": memory.peak(),
            }
        )
    print(file=sys.stderr)
    return figures


def times(stage: Stage, budget: float, device: str) -> list[float]:
    """Seconds of each step, at least one, after one to warm up."""
    seconds: list[float] = []
    while len(seconds) < 2 or sum(seconds[1:]) < budget:
        start = time.perf_counter()
        for name in PROGAN.intervals:
            stage.phase(name)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


class Memory:
    """The largest use of memory since: by tensors on a GPU, else by the process; None where the system does not say."""

    def __init__(self, device: str) -> None:
        self.device, self.known = device, True
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            return
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's: gives free memory back
        if trim is not None:
            trim(0)
        try:
            Path("/proc/self/clear_refs").write_text("5")  # Linux forgets the peak
        except OSError:
            self.known = False

    def peak(self) -> int | None:
        if self.device == "cuda":
            return torch.cuda.max_memory_allocated()
        if not self.known:
            return None
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def savings(stages: Sequence[dict[str, Any]], resolution: int) -> dict[str, Any]:
    """Hours to show the same images, growing against fully grown: until the last fade ends, and in the whole run."""
    ms_image = {(stage["resolution"], stage["fading"]): stage["ms_image"] for stage in stages}
    grown = sum(kimg for *_, kimg in schedule(resolution, TOTAL_KIMG)[:-1])
    found: dict[str, Any] = {"resolution": resolution}
    for name, kimg in (("grown", grown), ("total", TOTAL_KIMG)):
        growing = sum(ms_image[res, fading] * part for res, fading, part in schedule(resolution, kimg))
        fixed = ms_image[resolution, False] * kimg
        hours = {"growing_hours": growing / 3600, "fixed_hours": fixed / 3600}  # ms per image * kimg are seconds
        found[name] = {"kimg": kimg, **hours, "ratio": fixed / growing}
    return found


def table(report: dict[str, Any]) -> str:
    lines = ["| resolution | stage | batch | ms a step | ms an image | images/s | peak MiB |", "|---" * 7 + "|"]
    for stage in report["stages"]:
        what = "fades in" if stage["fading"] else "trains"
        figures = f"{stage['ms_step']:.1f} | {stage['ms_image']:.2f} | {1000 / stage['ms_image']:.1f}"
        memory = "-" if stage["peak_bytes"] is None else f"{stage['peak_bytes'] / MEBIBYTE:.0f}"
        lines.append(f"| {stage['resolution']} | {what} | {stage['batch']} | {figures} | {memory} |")
    lines += ["", "| final resolution | images | growing, hours | fixed, hours | growing is |", "|---" * 5 + "|"]
    for saving in report["savings"]:
        for name, until in (("grown", "until grown"), ("total", "whole run")):
            part = saving[name]
            hours = f"{part['growing_hours']:.1f} | {part['fixed_hours']:.1f} | {part['ratio']:.2f}x as fast"
            lines.append(f"| {saving['resolution']} | {part['kimg']:.0f}k, {until} | {hours} |")
    about = f"{report['variant']}, batches of at most {report['max_batch']}. {machine(report)}. Hours are computed."
    return "\n".join([*lines, "", about])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.models.growth", description=__doc__)
    help_resolution = "final resolutions; default 64 128 256, on a GPU up to 1024"
    parser.add_argument("--resolution", type=int, nargs="+", choices=list(BATCH)[1:], metavar="N", help=help_resolution)
    parser.add_argument("--max-batch", type=int, metavar="N", help="largest batch; default 16 on the CPU, else any")
    parser.add_argument("--budget", type=float, default=1.0, metavar="S", help="seconds for each stage, about")
    names = [str(v) for v in VARIANTS]
    parser.add_argument(
        "--variant", default="gankern fp32 NCHW", choices=names, metavar="NAME", help=f"one of {', '.join(names)}"
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default torch's choice")
    parser.add_argument("--json", metavar="FILE", help="write every figure to bench/results/FILE")
    parser.add_argument("--table", metavar="FILE", help="measure nothing: print the tables of bench/results/FILE")
    args = parser.parse_args(argv)
    if args.table:
        print(table(json.loads((RESULTS / args.table).read_text())))
        return 0
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: there is no GPU that this PyTorch can use")
    if args.device == "cpu":
        from gankern._host import keep_freed_memory

        keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    cuda = args.device == "cuda"
    resolutions = sorted(args.resolution or [64, 128, 256, *([512, 1024] if cuda else [])])
    max_batch = args.max_batch or (max(BATCH.values()) if cuda else 16)
    args.quick, args.flush_l2 = False, False
    variant = next(v for v in VARIANTS if str(v) == args.variant)
    stages = measure(variant, resolutions[-1], max_batch, args.budget, args.device)
    report = {**environment(args), "variant": args.variant, "max_batch": max_batch, "stages": stages}
    report["savings"] = [savings(stages, resolution) for resolution in resolutions]
    print(table(report))
    if args.json:
        (RESULTS / args.json).write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
