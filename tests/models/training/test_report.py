"""The report of a run."""

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tiny import OPTIONS, tiny_state

from gankern.models.training.data import ImageData
from gankern.models.training.loop import train
from gankern.models.training.report import metric_charts, write_report
from gankern.models.training.run_folder import append_note, write_config


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has come to its end, with sample grids after 0, 40, ..., 160 images."""
    from gankern.models.training.data import open_data

    run_dir = tmp_path_factory.mktemp("run") / "00000-digits"
    run_dir.mkdir()
    write_config(run_dir, {"preset": "<tiny>", "training": {"batch": 8, "kimg": 0.16}})
    data: ImageData = open_data("digits:8", cond=True)
    train(tiny_state(), data, OPTIONS, run_dir, {})
    grid = (run_dir / "fakes000000.png").read_bytes()
    for kimg in (4, 8, 12):  # so short a run has them all at 0 kimg
        (run_dir / f"fakes{kimg:06d}.png").write_bytes(grid)
    append_note(run_dir, 40, "resumed on <another>")
    return run_dir


def test_a_report_holds_everything_and_links_to_nothing(run_dir: Path) -> None:
    text = write_report(run_dir, {"FD-digits": "12.7 (<16.8> between real ones)"}).read_text()
    sources, ids = [], []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            sources.extend(value for name, value in attrs if name in ("src", "href"))
            ids.extend(value for name, value in attrs if name == "id")

    Tags().feed(text)
    assert len(sources) == 1 + 4 + 1  # the icon that a browser would ask for, samples, real images
    assert all(source and source.startswith("data:") for source in sources)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert len(ids) == len(set(ids))
    for shown in (
        "12.7",
        "&lt;16.8&gt;",
        "0.04 kimg: resumed on &lt;another&gt;",
        "&lt;tiny&gt;",
        "Time per image",
        "0.16 of 0.16",
    ):
        assert shown in text


def test_the_curves_are_those_that_the_run_has(run_dir: Path) -> None:
    curves = ElementTree.parse(run_dir / "curves.svg").getroot()
    titles = [next(e.text for e in chart if e.tag.endswith("text")) for chart in curves]
    assert titles == ["Discriminator scores", "Losses", "R1", "Path length", "Speed", "Memory"]


def test_a_run_that_has_just_begun_has_a_report_too(tmp_path: Path) -> None:
    text = write_report(tmp_path, {}, "running").read_text()
    assert "No samples yet" in text
    assert "running" in text


def test_a_report_that_cannot_be_written_leaves_the_old_one(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = write_report(run_dir, {}).read_bytes()

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_report(run_dir, {"FD-digits": 1})
    assert (run_dir / "report.html").read_bytes() == before
    assert not list(run_dir.glob(".*.tmp"))


def test_values_that_differ_in_a_number_at_their_end_share_a_chart_and_deviations_have_none() -> None:
    values = {"swd_32": 3.0, "swd_16": 1.0, "swd": 2.0, "kid": 0.1, "kid_std": 0.01}
    first, second = metric_charts([{"kimg": 1.0, **values}, {"kimg": 2.0, **values}])
    assert ">kid</text>" in first
    assert "kid_std" not in first + second
    for name in ("swd", "swd_16", "swd_32"):
        assert f">{name}</text>" in second
    assert metric_charts([]) == []
