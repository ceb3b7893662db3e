"""Line charts as SVG text."""

import math
from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 34, 44
COLOURS = ("#3465a4", "#cc4c02", "#4e9a06", "#75507b")
SMOOTHING = 20  # a smoothed point averages about this fraction of the curve: 1 / 20


class Series(NamedTuple):
    """One curve: points (x[i], y[i]) under a name."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def line_chart(title: str, x_label: str, y_label: str, series: Sequence[Series]) -> str:
    """Draws curves, each faint as measured and strong as smoothed, over axes with ticks; the vertical one shows zero.

    Args:
        title: Above the chart.
        x_label: Name and unit of the horizontal axis.
        y_label: Name and unit of the vertical axis.
        series: The curves; those without points are left out.

    Returns:
        A complete <svg> element.
    """
    series = [s for s in series if len(s.x)]
    x_ticks = _ticks(min((min(s.x) for s in series), default=0.0), max((max(s.x) for s in series), default=1.0))
    lowest, highest = min((min(s.y) for s in series), default=0.0), max((max(s.y) for s in series), default=1.0)
    y_ticks = _ticks(min(lowest, 0.0), max(highest, 0.0))

    def px(x: float) -> float:
        return LEFT + (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (WIDTH - LEFT - RIGHT)

    def py(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (HEIGHT - TOP - BOTTOM)

    def path(x: Sequence[float], y: Sequence[float], style: str) -> str:
        points = " ".join(f"{px(a):.1f},{py(b):.1f}" for a, b in zip(x, y, strict=True))
        return f'<polyline fill="none" {style} points="{points}"/>'

    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="11" fill="#333">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        _text(LEFT, 15, title, 'font-size="13" font-weight="bold"'),
        _text((LEFT + right) / 2, HEIGHT - 8, x_label, 'text-anchor="middle"'),
        _text(0, 0, y_label, f'text-anchor="middle" transform="translate(13 {(TOP + bottom) / 2:.0f}) rotate(-90)"'),
    ]
    for y in y_ticks:
        parts.append(f'<path stroke="#ddd" d="M{LEFT} {py(y):.1f}H{right}"/>')
        parts.append(_text(LEFT - 6, py(y) + 4, f"{y:g}", 'text-anchor="end"'))
    for x in x_ticks:
        parts.append(f'<path stroke="#999" d="M{px(x):.1f} {bottom}v4"/>')
        parts.append(_text(px(x), bottom + 16, f"{x:g}", 'text-anchor="middle"'))
    parts.append(f'<path stroke="#999" fill="none" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
    for k, s in enumerate(series):
        colour = COLOURS[k % len(COLOURS)]
        parts.append(path(s.x, s.y, f'stroke="{colour}" stroke-width="1" opacity="0.3"'))
        parts.append(path(s.x, smooth(s.y), f'stroke="{colour}" stroke-width="2"'))
        parts.append(_text(right - 110 * (len(series) - k - 1), 15, s.name, f'text-anchor="end" style="fill:{colour}"'))
    return "\n".join([*parts, "</svg>"])


def smooth(y: Sequence[float]) -> list[float]:
    """Exponential moving average over about 1 / `SMOOTHING` of the points, without bias at the start."""
    beta = 1 - 1 / max(len(y) / SMOOTHING, 1)
    total, weight, out = 0.0, 0.0, []
    for value in y:
        total = total * beta + value * (1 - beta)
        weight = weight * beta + (1 - beta)
        out.append(total / weight)
    return out


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, four to eight of them, from just below `low` to just above `high`."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    step = 10.0 ** math.floor(math.log10((high - low) / 3))
    step *= next(m for m in (5, 2, 1) if (high - low) / (step * m) >= 3)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _text(x: float, y: float, text: str, attributes: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{escaped}</text>'
