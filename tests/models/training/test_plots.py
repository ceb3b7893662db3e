"""The SVG charts."""

import itertools
import math
import xml.etree.ElementTree as ElementTree

import pytest

from gankern.models.training.plots import Series, line_chart, smooth, stacked_chart


def test_a_chart_is_well_formed_and_names_its_axes_and_curves() -> None:
    svg = line_chart("R1 < 1", "kimg", "penalty", [Series("D & G", [1, 2, 3], [0.5, 0.1, 0.2])])
    texts = [element.text for element in ElementTree.fromstring(svg).iter() if element.text and element.text.strip()]
    assert {"R1 < 1", "kimg", "penalty", "D & G"} <= set(texts)


@pytest.mark.parametrize(("x", "y"), [([1.0], [2.0]), ([0, 1e6], [-1e-9, 1e-9]), ([3, 4, 5], [7, 7, 7]), ([], [])])
def test_every_point_lies_inside_the_chart(x: list[float], y: list[float]) -> None:
    root = ElementTree.fromstring(line_chart("t", "x", "y", [Series("s", x, y)]))
    lines = [e.attrib["points"] for e in root.iter() if e.tag.endswith("polyline")]
    points = [tuple(map(float, p.split(","))) for line in lines for p in line.split()]
    assert all(62 <= a <= 548 and 34 <= b <= 216 for a, b in points)
    assert len(points) == 2 * len(x)


def test_smoothing_keeps_a_constant_and_damps_noise() -> None:
    assert smooth([3.0] * 50) == pytest.approx([3.0] * 50)
    noisy = [math.sin(k * 2.0) for k in range(400)]
    assert max(map(abs, smooth(noisy)[50:])) < 0.2


def test_a_curve_carries_what_it_was_drawn_from() -> None:
    root = ElementTree.fromstring(line_chart("t", "x", "y", [Series('"G" & D', [1, 2, 3], [0.5, 0.125, 4e-7])]))
    (carrying,) = (e.attrib for e in root.iter() if "data-name" in e.attrib)
    assert carrying["data-name"] == '"G" & D'
    assert carrying["data-x"] == "1 2 3"
    assert carrying["data-y"] == "0.5 0.125 4e-07"


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    root = ElementTree.fromstring(line_chart("t", "x", "y", [Series("s", range(10_001), range(10_001))]))
    x = next(e.attrib["data-x"] for e in root.iter() if "data-x" in e.attrib).split()
    assert len(x) <= 501
    assert (x[0], x[-1]) == ("0", "1e+04")


def test_on_logarithmic_axes_a_power_law_is_a_straight_line() -> None:
    x = [16, 32, 64, 128]
    root = ElementTree.fromstring(
        line_chart("t", "x", "y", [Series("s", x, [v**2 for v in x])], smoothed=False, log=True)
    )
    (line,) = (e.attrib["points"] for e in root.iter() if e.tag.endswith("polyline"))
    points = [tuple(map(float, point.split(","))) for point in line.split()]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(points)]
    assert slopes == pytest.approx([slopes[0]] * 3, rel=2e-3)
    assert [e.text for e in root.iter() if e.text in ("16", "32", "64", "128")] == ["16", "32", "64", "128"]


@pytest.mark.parametrize("y", [[3.0], [1.0, 1e6], [2.5, 2.6], [1e-3, 4e-3]])
def test_logarithmic_ticks_hold_every_point(y: list[float]) -> None:
    root = ElementTree.fromstring(line_chart("t", "x", "y", [Series("s", range(1, len(y) + 1), y)], log=True))
    lines = [e.attrib["points"] for e in root.iter() if e.tag.endswith("polyline")]
    assert all(34 <= float(point.split(",")[1]) <= 216 for line in lines for point in line.split())


def test_stacked_areas_lie_one_above_the_other() -> None:
    root = ElementTree.fromstring(
        stacked_chart("t", "x", "y", [Series("a", [0, 1], [1, 1]), Series("b", [0, 1], [2, 1])])
    )
    areas = [e.attrib["points"].split() for e in root.iter() if e.tag.endswith("polygon")]
    low, high = ([tuple(map(float, point.split(","))) for point in area] for area in areas)
    assert high[2:] == low[1::-1]  # the lower edge of one is the upper edge of the other
    heights = [(216 - y) / (216 - 34) for _, y in high[:2]]
    assert heights == pytest.approx([1.0, 2 / 3], abs=1e-3)
    carried = [(e.attrib["data-name"], e.attrib["data-y"]) for e in root.iter() if "data-name" in e.attrib]
    assert carried == [("a", "1 1"), ("b", "2 1")]  # their own heights, not the sums


@pytest.mark.parametrize(("points", "marked"), [(1, True), (3, True), (100, False)])
def test_a_few_points_are_marked_so_that_one_can_be_seen(points: int, marked: bool) -> None:
    svg = line_chart("t", "x", "y", [Series("s", range(points), range(points))])
    assert ("stroke-linecap" in svg) == marked
