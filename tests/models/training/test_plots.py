"""The SVG charts."""

import math
import xml.etree.ElementTree as ElementTree

import pytest

from gankern.models.training.plots import Series, line_chart, smooth


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
