"""What a run leaves for a person to look at: the loss curves, and one HTML file that holds everything."""

import base64
import html
import json
from pathlib import Path
from typing import Any

from .pictures import sample_grids
from .plots import HEIGHT, WIDTH, Series, line_chart
from .run_folder import OPTIONS, read_stats

CHARTS = (  # title, vertical axis, {legend: statistic}
    ("Discriminator scores", "mean score", {"real": "Loss/scores/real", "fake": "Loss/scores/fake"}),
    ("Losses", "loss", {"G": "Loss/G/loss", "D": "Loss/D/loss"}),
    ("Class head", "cross entropy", {"G": "Loss/G/class", "D": "Loss/D/class"}),
    ("R1", "penalty", {"R1": "Loss/r1_penalty"}),
    ("Gradient penalty", "penalty", {"WGAN-GP": "Loss/gp_penalty"}),
    ("Path length", "penalty", {"path length": "Loss/pl_penalty"}),
    ("Growth", "pixels", {"resolution": "Progress/resolution"}),
    ("Speed", "images / s", {"images / s": "Timing/images_per_sec"}),
)

STYLE = """
body { font: 15px/1.5 sans-serif; color: #333; max-width: 1180px; margin: 2em auto; padding: 0 1em; }
img { image-rendering: pixelated; max-width: 100%; } td { padding: 0 1.5em 0 0; }
pre { background: #f5f5f5; padding: 1em; }
"""


def write_curves(run_dir: Path) -> Path:
    """Draws the run's statistics over kimg into curves.svg, two charts a row."""
    ticks = read_stats(run_dir)
    charts = []
    for title, y_label, curves in CHARTS:
        series = []
        for legend, name in curves.items():
            points = [(t["Progress/kimg"]["mean"], t[name]["mean"]) for t in ticks if name in t]
            series.append(Series(legend, [x for x, _ in points], [y for _, y in points]))
        if any(s.x for s in series):
            charts.append(line_chart(title, "real images seen (thousands)", y_label, series))
    placed = [
        chart.replace("<svg ", f'<svg x="{k % 2 * WIDTH}" y="{k // 2 * HEIGHT}" ', 1) for k, chart in enumerate(charts)
    ]
    width, height = 2 * WIDTH, (len(charts) + 1) // 2 * HEIGHT
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">\n'
    path = run_dir / "curves.svg"
    path.write_text(svg + "\n".join([*placed, "</svg>\n"]))
    return path


def write_report(run_dir: Path, results: dict[str, Any]) -> Path:
    """Writes report.html: results, sample grid, timeline, real images, curves and configuration, nothing linked.

    Args:
        run_dir: Folder of the run.
        results: Names and values of the table at the top.
    """
    curves = write_curves(run_dir).read_text()
    grids = sample_grids(run_dir)
    rows = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(str(v))}</td></tr>" for k, v in results.items())
    config = json.dumps(json.loads((run_dir / OPTIONS).read_text()), indent=2)
    parts = [
        f"<!doctype html><meta charset='utf-8'><title>{html.escape(run_dir.name)}</title><style>{STYLE}</style>",
        f"<h1>{html.escape(run_dir.name)}</h1><table>{rows}</table>",
        _picture("Samples of the averaged generator", grids[-1] if grids else None),
        _picture("The same latents over time, one row per moment", run_dir / "timeline.png"),
        _picture("Real images", run_dir / "reals.png"),
        f"<h2>Curves</h2>{curves}",
        f"<h2>Configuration</h2><pre>{html.escape(config)}</pre>",
    ]
    path = run_dir / "report.html"
    path.write_text("\n".join(parts))
    return path


def _picture(title: str, path: Path | None) -> str:
    if path is None or not path.exists():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return f"<h2>{title}</h2><img alt='{title}' src='data:image/png;base64,{data}'>"
