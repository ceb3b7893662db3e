"""The report of a run."""

import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

from tiny import OPTIONS, tiny_state

from gankern.models.training.data import ImageData
from gankern.models.training.loop import train
from gankern.models.training.report import metric_charts, write_report
from gankern.models.training.run_folder import write_config


def test_a_report_holds_results_pictures_and_curves_and_links_to_nothing(tmp_path: Path, digits8: ImageData) -> None:
    write_config(tmp_path, {"training": {"batch": 8}})
    train(tiny_state(), digits8, OPTIONS, tmp_path, {})
    text = write_report(tmp_path, {"FD-digits": "<1>"}).read_text()
    sources = []

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            sources.extend(value for name, value in attrs if name in ("src", "href"))

    Links().feed(text)
    assert len(sources) == 3
    assert all(source and source.startswith("data:image/png") for source in sources)
    assert "&lt;1&gt;" in text
    assert "Discriminator scores" in text
    assert "&quot;batch&quot;: 8" in text
    curves = ElementTree.parse(tmp_path / "curves.svg").getroot()
    assert len(curves) == 5  # scores, losses, R1, path length, speed


def test_values_that_differ_in_a_number_at_their_end_share_a_chart_and_deviations_have_none() -> None:
    values = {"swd_32": 3.0, "swd_16": 1.0, "swd": 2.0, "kid": 0.1, "kid_std": 0.01}
    first, second = metric_charts([{"kimg": 1.0, **values}, {"kimg": 2.0, **values}])
    assert ">kid</text>" in first
    assert "kid_std" not in first + second
    for name in ("swd", "swd_16", "swd_32"):
        assert f">{name}</text>" in second
    assert metric_charts([]) == []
