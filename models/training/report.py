"""What a run leaves for a person to look at: the loss curves, and one HTML file that holds everything."""

import html
import json
import re
import time
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from .checkpoint import write_atomically
from .moments import moments, picture_uri
from .plots import HEIGHT, WIDTH, Series, line_chart, stacked_chart
from .progress import clock
from .run_folder import OPTIONS, read_metrics, read_notes, read_stats
from .run_times import StageTime, by_phase, by_stage
from .stats import Summary

CHARTS = (  # title, vertical axis, {legend: statistic}
    ("Discriminator scores", "mean score", {"real": "Loss/scores/real", "fake": "Loss/scores/fake"}),
    ("Losses", "loss", {"G": "Loss/G/loss", "D": "Loss/D/loss"}),
    ("Class head", "cross entropy", {"G": "Loss/G/class", "D": "Loss/D/class"}),
    ("R1", "penalty", {"R1": "Loss/r1_penalty"}),
    ("Gradient penalty", "penalty", {"WGAN-GP": "Loss/gp_penalty"}),
    ("Path length", "penalty", {"path length": "Loss/pl_penalty"}),
    ("Augmentation", "probability", {"p": "Progress/augment"}),
    ("Growth", "pixels", {"resolution": "Progress/resolution"}),
    ("Speed", "images / s", {"images / s": "Timing/images_per_sec"}),
    ("Memory", "GB", {"process": "Resources/cpu_mem_gb", "GPU, peak": "Resources/peak_gpu_mem_gb"}),
)
EXACT = ("Augmentation", "Growth", "Memory")  # whose curves are no noisy measurements

KIMG = "real images seen (thousands)"
MOST_CURVES = 4  # of one chart of a metric: SWD has a value for each resolution


def write_curves(run_dir: Path) -> Path:
    """Draws the run's statistics and metrics over kimg into curves.svg, two charts a row."""
    charts = statistic_charts(read_stats(run_dir)) + metric_charts(read_metrics(run_dir))
    placed = [
        chart.replace("<svg ", f'<svg x="{k % 2 * WIDTH}" y="{k // 2 * HEIGHT}" ', 1) for k, chart in enumerate(charts)
    ]
    width, height = 2 * WIDTH, (len(charts) + 1) // 2 * HEIGHT
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">\n'
    path = run_dir / "curves.svg"
    path.write_text(svg + "\n".join([*placed, "</svg>\n"]))
    return path


def statistic_charts(ticks: Sequence[Summary]) -> list[str]:
    """A chart for each row of `CHARTS` that the run has values for."""
    charts = []
    for title, y_label, curves in CHARTS:
        series = []
        for legend, name in curves.items():
            points = [(t["Progress/kimg"]["mean"], t[name]["mean"]) for t in ticks if name in t]
            series.append(Series(legend, [x for x, _ in points], [y for _, y in points]))
        if any(s.x for s in series):
            charts.append(line_chart(title, KIMG, y_label, series, smoothed=title not in EXACT))
    return charts


def metric_charts(measured: list[dict[str, float]]) -> list[str]:
    """A chart for each metric; names that differ in a number at their end share one, and deviations have none."""
    names = sorted({name for values in measured for name in values if name != "kimg" and not name.endswith("_std")})
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"_\d+$", "", name), []).append(name)
    charts = []
    for group, members in groups.items():
        series = []
        for name in sorted(members, key=len)[:MOST_CURVES]:
            points = [(values["kimg"], values[name]) for values in measured if name in values]
            series.append(Series(name, [x for x, _ in points], [y for _, y in points]))
        charts.append(line_chart(group, KIMG, group, series))
    return charts


def write_report(run_dir: Path, results: Mapping[str, Any], status: str = "finished") -> Path:
    """Writes report.html, everything in one file that links to nothing, from what the run folder holds.

    A reader who opens it meanwhile sees the old page or the new one, whole.

    Args:
        run_dir: Folder of the run.
        results: Names and values of the headline.
        status: `running`, `stopped` or `finished`.
    """
    ticks, config = read_stats(run_dir), _config(run_dir)
    total = config.get("training", {}).get("kimg")
    kimg = ticks[-1]["Progress/kimg"]["mean"] if ticks else 0.0
    page = Template(files(__package__).joinpath("report_template.html").read_text()).substitute(
        name=html.escape(run_dir.name),
        about=html.escape(_about(config)),
        status=html.escape(status),
        percent=f"{min(100 * kimg / total, 100):.1f}" if total else "0",
        cards=_cards(_headline(ticks, total) | dict(results)),
        samples=_samples(run_dir),
        reals=_reals(run_dir),
        curves="".join(_figure(chart) for chart in statistic_charts(ticks) + metric_charts(read_metrics(run_dir))),
        times=_times(ticks),
        notes=_notes(read_notes(run_dir)),
        config=_settings(config),
        written=time.strftime("%Y-%m-%d %H:%M:%S"),
    )
    path = run_dir / "report.html"
    write_atomically(path, lambda file: file.write(page.encode()))
    return path


def _config(run_dir: Path) -> dict[str, Any]:
    path = run_dir / OPTIONS
    return json.loads(path.read_text()) if path.exists() else {}


def _about(config: Mapping[str, Any]) -> str:
    """The run in one line."""
    data, model, training = (config.get(part, {}) for part in ("data", "model", "training"))
    known = [
        f"{config['family']}, preset {config['preset']}" if "family" in config else "",
        f"{data['name']}: {data['images']:,} images" if "images" in data else "",
        "{0}x{0}".format(model["img_resolution"]) if "img_resolution" in model else "",
        "by class" if data.get("cond") else "",
        f"batch {training['batch']}" if "batch" in training else "",
        model.get("precision", ""),
    ]
    return " · ".join(part for part in known if part)


def _headline(ticks: Sequence[Summary], total: float | None) -> dict[str, str]:
    """Where the run stands, from its last tick."""
    if not ticks:
        return {}
    values = {name: statistic["mean"] for name, statistic in ticks[-1].items()}
    found = {"real images": f"{values['Progress/kimg']:g} {f'of {total:g} ' if total else ''}kimg"}
    texts = {
        "Progress/resolution": ("resolution", lambda v: f"{v:.0f}x{v:.0f}"),
        "Timing/images_per_sec": ("speed", lambda v: f"{v:.0f} images/s"),
        "Timing/total_sec": ("time so far", clock),
        "Resources/peak_cpu_mem_gb": ("memory", lambda v: f"{v:.1f} GB"),
        "Resources/peak_gpu_mem_gb": ("GPU memory", lambda v: f"{v:.1f} GB"),
        "Progress/augment": ("augmentation p", lambda v: f"{v:.3f}"),
    }
    return found | {name: text(values[key]) for key, (name, text) in texts.items() if key in values}


def _cards(values: Mapping[str, Any]) -> str:
    cards = []
    for name, value in values.items():
        big, _, small = str(value).partition(" (")
        small = f"<small>{html.escape(small.removesuffix(')'))}</small>" if small else ""
        cards.append(f"<div class=card><span>{html.escape(name)}</span><b>{html.escape(big)}</b>{small}</div>")
    return "".join(cards)


def _samples(run_dir: Path) -> str:
    """All moments in one place, the last of them shown, and what moves through them."""
    found, left_out = moments(run_dir)
    if not found:
        return "<p>No samples yet.</p>"
    pictures = "".join(
        f'<img alt="samples at {html.escape(moment.label)}" data-label="{html.escape(moment.label)}" '
        f'src="{moment.uri}"{"" if k == len(found) - 1 else " hidden"}>'
        for k, moment in enumerate(found)
    )
    omitted = f"<p>{len(found)} of {len(found) + left_out} moments; the others are in the run folder.</p>"
    return (
        f"<div class=moments>{pictures}</div><div class=player><button type=button id=play>Play</button>"
        f'<input id=moment type=range min=0 max={len(found) - 1} value={len(found) - 1} aria-label="moment">'
        f"<output id=label>{html.escape(found[-1].label)}</output></div>{omitted if left_out else ''}"
    )


def _reals(run_dir: Path) -> str:
    path = run_dir / "reals.png"
    return f'<img alt="real images" src="{picture_uri(path)}">' if path.exists() else "<p>None were written.</p>"


def _figure(chart: str) -> str:
    return f"<figure>{chart}</figure>"


def _times(ticks: Sequence[Summary]) -> str:
    """Where the time went, by phase and by stage."""
    phases, stages = by_phase(ticks), by_stage(ticks)
    parts = []
    if phases and len(phases[0].x) > 1:
        title = "Time per image"
        parts.append(f"<div class=wide>{_figure(stacked_chart(title, KIMG, 'ms / image', phases))}</div>")
    if stages:
        slowest = max(stage.ms_image for stage in stages)
        rows = "".join(_stage_row(stage, slowest) for stage in stages)
        heads = ("stage", "kimg", "time", "images/s", "ms / image", "memory")
        head = "".join(f"<th>{name}</th>" for name in heads)
        parts.append(f"<div class=scroll><table class=stages><tr>{head}</tr>{rows}</table></div>")
    return "".join(parts) or "<p>Nothing measured yet.</p>"


def _stage_row(stage: StageTime, slowest: float) -> str:
    memory = "" if stage.memory_gb is None else f"{stage.memory_gb:.1f} GB"
    cells = [stage.name, f"{stage.first_kimg:g} - {stage.last_kimg:g}", clock(stage.seconds)]
    cells += [f"{1000 / stage.ms_image:.0f}"]
    bar = f"<td><i style='width:{6 * stage.ms_image / slowest:.2f}em'></i> {stage.ms_image:.2f}</td>"
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}{bar}<td>{memory}</td></tr>"


def _notes(notes: Sequence[Mapping[str, Any]]) -> str:
    if not notes:
        return "<p>Nothing out of the ordinary.</p>"
    items = "".join(f"<li>{note['kimg']:g} kimg: {html.escape(note['note'])}</li>" for note in notes)
    return f"<ul>{items}</ul>"


def _settings(config: Mapping[str, Any]) -> str:
    """A table of each part of the configuration."""
    tops = {name: value for name, value in config.items() if not isinstance(value, dict)}
    tables = []
    for title, values in {"run": tops, **{k: v for k, v in config.items() if isinstance(v, dict)}}.items():
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(json.dumps(value))}</td></tr>"
            for name, value in values.items()
        )
        if rows:
            tables.append(f"<table><caption>{html.escape(title)}</caption>{rows}</table>")
    return "".join(tables)
