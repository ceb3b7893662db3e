"""The report of a run."""

import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

from tiny import OPTIONS, tiny_state

from gankern.models.training.data import ImageData
from gankern.models.training.loop import train
from gankern.models.training.report import write_report
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
