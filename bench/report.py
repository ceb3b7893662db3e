"""`python -m bench.report`: the README's tables and the pictures, from the JSON files in bench/results/.

The README names the files between marks, e.g. <!-- bench: iterations stylegan2-cpu.json progan-cpu.json --> and
<!-- /bench -->; what stands between them is written anew. Pictures go to docs/. Nothing is measured.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.run import summary

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
MARKED = re.compile(r"(<!-- bench: (\w+) ([^>]*?) -->\n).*?(<!-- /bench -->)", re.DOTALL)
NETWORKS = {"stylegan2": "StyleGAN2", "stylegan": "StyleGAN", "progan": "ProGAN", "biggan": "BigGAN"}
COLOURS = {"plain, fp32": "#9aa0a6", "plain, bf16": "#5f6368", "gankern, fp32": "#3465a4", "gankern, bf16": "#cc4c02"}
LIMITS = {"forward": "#3465a4", "+backward": "#cc4c02", "+double backward": "#4e9a06"}


def iterations(reports: dict[str, dict[str, Any]]) -> str:
    """A line for each network and resolution: the best plain PyTorch in fp32, and speeds relative to it."""
    lines = [
        "| network | pixels | plain PyTorch, fp32 | gankern, fp32 | gankern, bf16 | plain, bf16 "
        "| peak memory, plain / gankern fp32 |",
        "|---" * 7 + "|",
    ]
    for network, resolution, best in rows(reports):
        plain = best["plain, fp32"]
        speeds = [f"{plain['ms'] / best[who]['ms']:.2f}x" for who in [*list(COLOURS)[2:], "plain, bf16"]]
        memory = [best[who]["peak_mb"] for who in ("plain, fp32", "gankern, fp32")]
        held = " / ".join("-" if mb is None else f"{mb / 1000:.1f}" for mb in memory)
        shown = [network, str(resolution), f"{plain['ms']:.0f} ms", *speeds, f"{held} GB"]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def rows(reports: dict[str, dict[str, Any]]) -> list[tuple[str, int, dict[str, dict[str, Any]]]]:
    """(network, resolution, of plain PyTorch and of gankern in each precision the fastest: its ms and peak memory)."""
    found = []
    for name, report in reports.items():
        network = NETWORKS[name.partition("-")[0]]
        for resolution in sorted({figure["resolution"] for figure in report["figures"]}):
            best: dict[str, dict[str, Any]] = {}
            for figure in report["figures"]:
                who, *_, precision, _ = figure["variant"].split()
                if figure["resolution"] != resolution:
                    continue
                key = f"{'plain' if who.startswith('eager') else 'gankern'}, {precision}"
                ms = figure["ms"]["iteration"]
                if key not in best or ms < best[key]["ms"]:
                    best[key] = {"ms": ms, "peak_mb": figure["peak_mb"]}
            if len(best) == len(COLOURS):
                found.append((network, resolution, best))
    return found


def ops(reports: dict[str, dict[str, Any]]) -> str:
    """A line for each case of some ops; see `bench.run.summary`."""
    bodies = [summary(report).split("\n\n")[0].splitlines() for report in reports.values()]
    return "\n".join([*bodies[0][:2], *(line for body in bodies for line in body[2:])])


TABLES = {"iterations": iterations, "ops": ops}


def with_tables(text: str) -> str:
    """A page with everything between its marks written anew.

    Raises:
        ValueError: A mark names no table, or a file that is not there.
    """

    def table(mark: re.Match[str]) -> str:
        kind, names = mark[2], mark[3].split()
        if kind not in TABLES:
            raise ValueError(f"bench: a mark must name one of {', '.join(TABLES)}, got {kind}")
        missing = [name for name in names if not (RESULTS / name).is_file()]
        if missing:
            raise ValueError(f"bench: a mark must name files in bench/results/, got {', '.join(missing)}")
        return f"{mark[1]}{TABLES[kind]({name: json.loads((RESULTS / name).read_text()) for name in names})}\n{mark[4]}"

    return MARKED.sub(table, text)


def draw_iterations(reports: dict[str, dict[str, Any]], path: Path) -> None:
    """Bars: how fast an iteration is, plain PyTorch in fp32 being 1."""
    plt = _pyplot()
    table = rows(reports)
    figure, axes = plt.subplots(figsize=(8, 0.4 + 0.9 * len(table)), layout="constrained")
    for k, (who, colour) in enumerate(COLOURS.items()):
        speeds = [best["plain, fp32"]["ms"] / best[who]["ms"] for _, _, best in table]
        bars = axes.barh([i + 0.2 * (k - 1.5) for i in range(len(table))], speeds, 0.19, color=colour, label=who)
        axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.set_yticks(range(len(table)), [f"{network} {resolution}" for network, resolution, _ in table])
    axes.invert_yaxis()
    axes.axvline(1, color="#333", linewidth=0.8)
    axes.set_xlabel("training iterations per second, relative to plain PyTorch in fp32")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=4, fontsize=8, frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def draw_ops(report: dict[str, Any], path: Path) -> None:
    """Two charts: each case's speed relative to the best eager PyTorch, and to a plain copy of its bytes."""
    plt = _pyplot()
    cases: dict[str, dict[str, tuple[float, float]]] = {}
    for figure in report["figures"]:
        name = f"{figure['op']} {figure['case']} {'x'.join(map(str, figure['shape']))} {figure['dtype']}"
        ms = {who: values[0] for who, values in figure["ms"].items()}
        ours = min(t for who, t in ms.items() if who.startswith(("native", "triton")))
        eager = min(t for who, t in ms.items() if who.startswith("eager"))
        mode = figure["mode"].replace("forward+backward", "+backward").replace("+backward+double", "+double")
        best = cases.setdefault(name, {}).get(mode, (0.0, 0.0))
        cases[name][mode] = max(best[0], eager / ours), max(best[1], ms["copy"] / ours)
    figure, both = plt.subplots(1, 2, figsize=(11, 0.8 + 0.42 * len(cases)), layout="constrained", sharey=True)
    titles = ("speed relative to the best eager PyTorch", "speed relative to a copy of the bytes (1 is the limit)")
    for chart, axes in enumerate(both):
        for k, (mode, colour) in enumerate(LIMITS.items()):
            values = [modes.get(mode, (0.0, 0.0))[chart] for modes in cases.values()]
            axes.barh([i + 0.26 * (k - 1) for i in range(len(cases))], values, 0.25, color=colour, label=mode)
        axes.axvline(1, color="#333", linewidth=0.8)
        axes.set_xlabel(titles[chart], fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    both[0].set_xscale("log")
    both[0].set_yticks(range(len(cases)), list(cases), fontsize=8)
    both[0].invert_yaxis()
    both[1].legend(loc="lower right", fontsize=8, frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the README is not up to date")
    args = parser.parse_args(argv)
    readme = ROOT / "README.md"
    text = with_tables(readme.read_text())
    if args.check:
        if text != readme.read_text():
            print("README.md: its tables are not those of bench/results/; python -m bench.report", file=sys.stderr)
            return 1
        return 0
    readme.write_text(text)
    for mark in MARKED.finditer(text):
        reports = {name: json.loads((RESULTS / name).read_text()) for name in mark[3].split()}
        if mark[2] == "iterations":
            draw_iterations(reports, ROOT / "docs" / "bench-iterations.svg")
        else:
            for name, report in reports.items():
                draw_ops(report, ROOT / "docs" / f"bench-{Path(name).stem}.svg")
    print("README.md and docs/bench-*.svg are those of bench/results/")
    return 0


def _pyplot() -> Any:
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("bench: pictures need matplotlib: pip install 'gankern[bench]'") from error
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "gankern"  # the same file from the same figures
    from matplotlib import pyplot

    return pyplot


if __name__ == "__main__":
    sys.exit(main())
