"""The report as a reader has it: in a browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gankern.models.training.png import write_png
from gankern.models.training.report import write_report
from gankern.models.training.run_folder import append_stats, write_config
from gankern.models.training.stats import summarise

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium or Chrome in the path")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--no-first-run"]
QUIET += ["--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a growing run with three sample grids: black, grey, white."""
    run_dir = tmp_path_factory.mktemp("run")
    write_config(run_dir, {"preset": "progan-digits", "family": "progan", "training": {"kimg": 8, "batch": 16}})
    for kimg, value in ((0, 0), (4, 128), (8, 255)):
        write_png(run_dir / f"fakes{kimg:06d}-{4 + kimg}x{4 + kimg}.png", np.full([544, 680, 3], value, np.uint8))
    for tick in range(1, 9):
        values = {
            "Progress/kimg": tick,
            "Progress/resolution": 4 if tick < 5 else 8,
            "Progress/alpha": 1.0,
            "Loss/G/loss": 1.0 / tick,
            "Loss/D/loss": 0.5,
            "Timing/Gmain": 1.5 * tick,
            "Timing/Dmain": 2.5 * tick,
            "Timing/sec_per_tick": 1.0,
            "Timing/sec_per_kimg": 1.0,
            "Timing/maintenance_sec": 0.1,
            "Timing/images_per_sec": 1000.0,
            "Timing/total_sec": 1.1 * tick,
            "Resources/cpu_mem_gb": 0.5,
        }
        append_stats(run_dir, {n: summarise([v] * (50 if n.endswith("main") else 1)) for n, v in values.items()})
    return write_report(run_dir, {"time left": "3:05"}, "running")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """The report, opened; afterwards nothing was asked of a network and nothing complained."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(report.as_uri())
    yield page
    page.close()
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert complaints == []


def shown(page: Any) -> tuple[str, int]:
    """The label of the only sample grid that is to be seen, and how bright its middle is drawn."""
    found = page.locator(".moments img:visible")
    assert found.count() == 1
    drawn = """image => {
        const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
        canvas.width = canvas.height = 1;
        context.drawImage(image, 0, 0, 1, 1);
        return context.getImageData(0, 0, 1, 1).data[0];
    }"""
    assert page.locator("#label").inner_text() == found.get_attribute("data-label")
    return found.get_attribute("data-label"), found.evaluate(drawn)


def test_the_slider_moves_through_the_moments(page: Any) -> None:
    assert shown(page) == ("8 kimg, 12x12", 255)
    page.locator("#moment").fill("0")
    assert shown(page) == ("0 kimg, 4x4", 0)
    page.locator("#moment").press("ArrowRight")
    assert shown(page) == ("4 kimg, 8x8", 128)


def test_play_goes_through_the_moments_and_stops_at_the_last(page: Any) -> None:
    button = page.get_by_role("button", name="Play")
    button.click()
    page.get_by_role("button", name="Pause").wait_for()
    assert shown(page)[1] < 255
    button.wait_for(timeout=5000)
    assert shown(page)[1] == 255


def test_a_chart_says_its_values_under_the_pointer(page: Any) -> None:
    chart = page.locator("figure", has_text="Losses").locator("svg")
    box = chart.bounding_box()
    chart.hover(position={"x": box["width"] - 8, "y": box["height"] / 2})
    assert page.locator(".tip").inner_text().split("\n") == ["8", "G  0.125", "D  0.5"]
    page.mouse.move(0, 0)
    assert page.locator(".tip").count() == 0


def test_stages_and_phases_say_where_the_time_went(page: Any) -> None:
    rows = page.locator("table.stages tr").all_inner_texts()
    assert [row.split("\t")[:4] for row in rows[1:]] == [
        ["4x4", "0 - 4", "0:04", "1000"],
        ["8x8", "4 - 8", "0:04", "1000"],
    ]
    assert page.locator("figure", has_text="Time per image").locator("polygon").count() == 4  # with other and metrics


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_screen(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_page_is_loaded_again_only_where_the_reader_wants_it(page: Any) -> None:
    box = page.locator("#refresh")
    assert not box.is_checked()
    box.check()
    page.reload()
    assert box.is_checked()
