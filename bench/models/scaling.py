"""`python -m bench.models.scaling --family stylegan2`: how the time and memory of an iteration grow with its size.

Resolutions x batches of one family of networks, each measured as `python -m bench.models.FAMILY` does: the median time
of an iteration, and the largest resident memory of a process of its own that trains one. Drawn with logarithmic axes,
where growth in proportion is a straight line at the same slope for all.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from bench.models.biggan import biggan
from bench.models.iteration import RESULTS, VARIANTS, Iteration, machine, measure
from bench.models.progan import PROGAN
from bench.models.stylegan import STYLEGAN
from bench.models.stylegan2 import STYLEGAN2
from bench.run import environment
from gankern.models.training.plots import HEIGHT, WIDTH, Series, line_chart

FAMILIES: dict[str, Iteration] = {
    "stylegan2": STYLEGAN2,
    "stylegan": STYLEGAN,
    "progan": PROGAN,
    "biggan": biggan(),
}
MEASURES: dict[str, Callable[[dict[str, Any]], float | None]] = {
    "ms / iteration": lambda figure: figure["ms"],
    "images / s": lambda figure: 1000 * figure["batch"] / figure["ms"],
    "peak memory, MB": lambda figure: figure["peak_mb"],
}


def grid(
    family: str, names: Sequence[str], resolutions: Sequence[int], batches: Sequence[int], rounds: int, memory: bool
) -> list[dict[str, Any]]:
    """The figures of every resolution and batch, each of all variants, which take turns."""
    iteration, figures = FAMILIES[family], []
    variants = [variant for variant in iteration.variants if str(variant) in names]
    for resolution in resolutions:
        for batch in batches:
            for found in measure(iteration, variants, resolution, batch, rounds, memory):
                kept = {name: found[name] for name in ("resolution", "batch", "variant", "peak_mb")}
                figures.append({"family": family, **kept, "ms": found["ms"]["iteration"]})
    return figures


def table(report: dict[str, Any]) -> str:
    """A line for each family, variant, resolution and batch."""
    lines = ["| family | variant | resolution | batch | ms | images/s | peak MB |", "|---" * 7 + "|"]
    for figure in report["figures"]:
        ms, rate, memory = (value(figure) for value in MEASURES.values())
        shown = f"{ms:.0f} | {rate:.1f} | {'-' if memory is None else f'{memory:.0f}'} |"
        what = (figure[name] for name in ("family", "variant", "resolution", "batch"))
        lines.append(f"| {' | '.join(map(str, what))} | {shown}")
    return "\n".join([*lines, "", machine(report)])


def drawing(report: dict[str, Any]) -> str:
    """The same as SVG: a row of charts for each family and variant, over the batch, a curve for each resolution."""
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for figure in report["figures"]:
        rows.setdefault((figure["family"], figure["variant"]), []).append(figure)
    parts = []
    for y, ((family, variant), figures) in enumerate(rows.items()):
        for x, (label, value) in enumerate(MEASURES.items()):
            series = []
            for resolution in sorted({figure["resolution"] for figure in figures}):
                points = [(f["batch"], value(f)) for f in figures if f["resolution"] == resolution]
                known = sorted((batch, v) for batch, v in points if v is not None)
                series.append(Series(f"{resolution} pixels", [b for b, _ in known], [v for _, v in known]))
            if any(s.x for s in series):
                chart = line_chart(f"{family}, {variant}", "batch", label, series, smoothed=False, log=True)
                parts.append(chart.replace("<svg ", f'<svg x="{x * WIDTH}" y="{y * HEIGHT}" ', 1))
    size = f'viewBox="0 0 {len(MEASURES) * WIDTH} {len(rows) * HEIGHT}"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', *parts, "</svg>\n"])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.models.scaling", description=__doc__)
    families = parser.add_argument("--family", nargs="+", choices=FAMILIES, default=["stylegan2"])
    families.metavar = "NAME"
    parser.add_argument("--resolution", type=int, nargs="+", default=[32, 64, 128, 256], metavar="N")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N")
    names = [str(v) for v in VARIANTS]
    parser.add_argument(
        "--variant",
        nargs="+",
        choices=names,
        default=["eager fp32 channels_last", "gankern fp32 channels_last"],
        metavar="NAME",
        help=f"of {', '.join(names)}",
    )
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts, after one to warm up")
    parser.add_argument("--no-memory", action="store_true", help="do not measure memory, a process for each figure")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default torch's choice")
    parser.add_argument("--json", metavar="FILE", help="write every figure to bench/results/FILE, and a drawing beside")
    parser.add_argument("--table", metavar="FILE", help="measure nothing: print and draw bench/results/FILE")
    args = parser.parse_args(argv)
    if args.table:
        report = json.loads((RESULTS / args.table).read_text())
    else:
        from gankern._host import keep_freed_memory

        keep_freed_memory()
        if args.threads:
            torch.set_num_threads(args.threads)
        args.device, args.quick, args.flush_l2 = "cpu", False, False
        report = {**environment(args), "figures": []}
        for family in args.family:
            memory = not args.no_memory
            report["figures"] += grid(family, args.variant, args.resolution, args.batch, args.rounds, memory)
    print(table(report))
    if args.json:
        (RESULTS / args.json).write_text(json.dumps(report, indent=1) + "\n")
    if args.json or args.table:
        path = (RESULTS / (args.json or args.table)).with_suffix(".svg")
        path.write_text(drawing(report))
        print(f"drawn in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
