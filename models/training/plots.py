"""Charts as SVG text: lines, and stacked areas. In a page they take its colours, and can say their values."""

import math
from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 34, 44
COLOURS = ("#3465a4", "#cc4c02", "#4e9a06", "#75507b", "#c4a000", "#2aa198", "#b5577b", "#8a8a8a", "#555d66", "#a0522d")
SMOOTHING = 20  # a smoothed point averages about this fraction of the curve: 1 / 20
MOST_POINTS = 500  # that are drawn of a curve
FEW_POINTS = 12  # up to which each is marked


class Series(NamedTuple):
    """One curve: points (x[i], y[i]) under a name."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


class Axis(NamedTuple):
    """Where a value lies, in pixels from `first` at the first tick to `last` at the last one."""

    ticks: Sequence[float]
    first: float
    last: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self.first + (value - low) / (high - low) * (self.last - self.first)


def line_chart(
    title: str, x_label: str, y_label: str, series: Sequence[Series], smoothed: bool = True, log: bool = False
) -> str:
    """Draws curves over axes with ticks; the vertical one shows zero unless it is logarithmic. A few points are marked.

    Args:
        title: Above the chart.
        x_label: Name and unit of the horizontal axis.
        y_label: Name and unit of the vertical axis.
        series: The curves; those without points are left out.
        smoothed: Draws each faint as measured, and strong as smoothed.
        log: Both axes are logarithmic, and every point is marked; all values must be positive.

    Returns:
        A complete <svg> element.
    """
    series = [s for s in series if len(s.x)]
    xs, ys = [x for s in series for x in s.x], [y for s in series for y in s.y]
    if log:
        x_ticks, y_ticks = sorted({float(x) for x in xs}), _log_ticks(min(ys), max(ys))
        x_ticks = x_ticks if len(x_ticks) > 1 else [x_ticks[0] / 2, x_ticks[0] * 2]
    else:
        x_ticks = _ticks(min(xs, default=0.0), max(xs, default=1.0))
        y_ticks = _ticks(min([*ys, 0.0]), max([*ys, 0.0]) if ys else 1.0)
    x_axis, y_axis = Axis(x_ticks, LEFT, WIDTH - RIGHT, log), Axis(y_ticks, HEIGHT - BOTTOM, TOP, log)
    parts = _frame(title, x_label, y_label, x_axis, y_axis, WIDTH)
    for k, s in enumerate(series):
        colour = COLOURS[k % len(COLOURS)]
        strong, faint = f'stroke="{colour}" stroke-width="2"', f'stroke="{colour}" stroke-width="1" opacity="0.3"'
        parts.append(_polyline(s, s.y, x_axis, y_axis, faint if smoothed else strong, values=True))
        if smoothed:
            parts.append(_polyline(s, smooth(s.y), x_axis, y_axis, strong))
        if log or len(s.x) <= FEW_POINTS:
            dots = "".join(f"M{x_axis(x):.1f} {y_axis(y):.1f}h0" for x, y in zip(s.x, s.y, strict=True))
            parts.append(f'<path stroke="{colour}" stroke-width="6" stroke-linecap="round" d="{dots}"/>')
    return "\n".join([*parts, *_legend([s.name for s in series], WIDTH), "</svg>"])


def stacked_chart(title: str, x_label: str, y_label: str, series: Sequence[Series]) -> str:
    """Draws areas one above the other, twice as wide as `line_chart`.

    Args:
        title: Above the chart.
        x_label: Name and unit of the horizontal axis.
        y_label: Name and unit of the vertical axis.
        series: From the lowest area to the highest, all over the same x and none negative; at most as many as there are
            `COLOURS`.

    Returns:
        A complete <svg> element.
    """
    x = list(series[0].x)
    tops = [[0.0] * len(x)]
    for s in series:
        tops.append([below + y for below, y in zip(tops[-1], s.y, strict=True)])
    x_axis = Axis(_ticks(min(x), max(x)), LEFT, 2 * WIDTH - RIGHT)
    y_axis = Axis(_ticks(0.0, max(tops[-1])), HEIGHT - BOTTOM, TOP)
    parts = _frame(title, x_label, y_label, x_axis, y_axis, 2 * WIDTH)
    for k, s in enumerate(series):
        outline = [*zip(x, tops[k + 1], strict=True), *zip(x[::-1], tops[k][::-1], strict=True)]
        points = " ".join(f"{x_axis(a):.1f},{y_axis(b):.1f}" for a, b in outline)
        parts.append(f'<polygon fill="{COLOURS[k]}" opacity="0.85" points="{points}"/>')
        parts.append(_polyline(s, tops[k + 1], x_axis, y_axis, f'stroke="{COLOURS[k]}" stroke-width="1"', values=True))
    return "\n".join([*parts, *_legend([s.name for s in series], 2 * WIDTH), "</svg>"])


def smooth(y: Sequence[float]) -> list[float]:
    """Exponential moving average over about 1 / `SMOOTHING` of the points, without bias at the start."""
    beta = 1 - 1 / max(len(y) / SMOOTHING, 1)
    total, weight, out = 0.0, 0.0, []
    for value in y:
        total = total * beta + value * (1 - beta)
        weight = weight * beta + (1 - beta)
        out.append(total / weight)
    return out


def _frame(title: str, x_label: str, y_label: str, x_axis: Axis, y_axis: Axis, width: int) -> list[str]:
    """The start of the <svg> element: paper, title, axes."""
    right, bottom = width - RIGHT, HEIGHT - BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" '
        'class="chart" font-family="sans-serif" font-size="11" fill="#333">',
        f'<rect class="paper" width="{width}" height="{HEIGHT}" fill="#fff"/>',
        _text(LEFT, 15, title, 'font-size="13" font-weight="bold"'),
        _text((LEFT + right) / 2, HEIGHT - 8, x_label, 'text-anchor="middle"'),
        _text(0, 0, y_label, f'text-anchor="middle" transform="translate(13 {(TOP + bottom) / 2:.0f}) rotate(-90)"'),
    ]
    for y in y_axis.ticks:
        parts.append(f'<path class="grid" stroke="#ddd" d="M{LEFT} {y_axis(y):.1f}H{right}"/>')
        parts.append(_text(LEFT - 6, y_axis(y) + 4, f"{y:g}", 'text-anchor="end"'))
    for x in x_axis.ticks:
        parts.append(f'<path class="axis" stroke="#999" d="M{x_axis(x):.1f} {bottom}v4"/>')
        parts.append(_text(x_axis(x), bottom + 16, f"{x:g}", 'text-anchor="middle"'))
    return [*parts, f'<path class="axis" stroke="#999" fill="none" d="M{LEFT} {TOP}V{bottom}H{right}"/>']


def _polyline(s: Series, y: Sequence[float], x_axis: Axis, y_axis: Axis, style: str, values: bool = False) -> str:
    """A curve through (s.x, y), thinned; with `values` it carries its name and what it shows, s.x and s.y."""
    step = -(-len(s.x) // MOST_POINTS)
    kept = [*range(0, len(s.x) - 1, step), len(s.x) - 1]
    points = " ".join(f"{x_axis(s.x[k]):.1f},{y_axis(y[k]):.1f}" for k in kept)
    carried = ""
    if values:
        shown = (" ".join(f"{numbers[k]:.4g}" for k in kept) for numbers in (s.x, s.y))
        carried = ' data-name="{}" data-x="{}" data-y="{}"'.format(_escaped(s.name), *shown)
    return f'<polyline fill="none" {style} points="{points}"{carried}/>'


def _legend(names: Sequence[str], width: int) -> list[str]:
    right, parts = width - RIGHT, []
    for k, name in enumerate(names):
        x = right - 90 * (len(names) - k - 1)
        parts.append(_text(x, 15, name, f'text-anchor="end" style="fill:{COLOURS[k % len(COLOURS)]}"'))
    return parts


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, four to eight of them, from just below `low` to just above `high`."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    step = 10.0 ** math.floor(math.log10((high - low) / 3))
    step *= next(m for m in (5, 2, 1) if (high - low) / (step * m) >= 3)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, or those powers alone where that is many, around positive values."""
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    for mantissas in ((1, 2, 5), (1,)):
        marks = [m * 10.0**k for k in exponents for m in mantissas]
        first = max(k for k, mark in enumerate(marks) if mark <= low * (1 + 1e-9))
        last = min(k for k, mark in enumerate(marks) if mark >= high * (1 - 1e-9) and k > first)
        if last - first <= 8:
            break
    return [float(f"{mark:.12g}") for mark in marks[first : last + 1]]


def _text(x: float, y: float, text: str, attributes: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{_escaped(text)}</text>'


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
