"""`gankern explore` from a shell, and its page in a browser."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_checkpoints import written

from gankern.models import cli

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync", "--no-first-run"]


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen, str]]:
    path = written(tmp_path_factory.mktemp("model"), "stylegan2")
    command = [sys.executable, "-m", "gankern.models.cli", "explore", str(path), "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        assert "Ctrl-C ends it" in process.stdout.readline()
        yield process, url
        process.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if BROWSER is None or importlib.util.find_spec("playwright") is None:
        pytest.skip("needs Chromium and the package playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, explorer: tuple[subprocess.Popen, str]) -> Iterator[Any]:
    """The page with its first image; at the end nothing may have gone wrong in its console."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(explorer[1])
    page.wait_for_selector("#image[data-query]")
    yield page
    page.close()
    assert said == []


PIXELS = """image => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  canvas.getContext("2d").drawImage(image, 0, 0);
  return canvas.toDataURL();
}"""


def shown(page: Any, expected: str) -> str:
    """The picture on the screen once its query has all these parts, but not those after `!`."""
    parts = [(part.startswith("!"), f'[data-query*="{part.lstrip("!")}"]') for part in expected.split()]
    page.wait_for_selector("#image" + "".join(f":not({part})" if absent else part for absent, part in parts))
    return page.locator("#image").evaluate(PIXELS)


def test_every_control_changes_the_image(page: Any) -> None:
    images = [shown(page, "seed=0")]
    for slider, value in (("seed", 5), ("class", 2), ("psi", 0.5), ("cutoff", 3), ("mix_count", 4), ("strength", 4)):
        page.locator(f"#{slider}").fill(str(value))
        images.append(shown(page, f"{slider}={value}"))
    assert page.locator("#layers .mixed").count() == 4
    page.locator("#grid label").nth(1).click()
    images.append(shown(page, "grid=2"))
    page.get_by_text("none", exact=True).click()
    images.append(shown(page, "noise=none"))
    assert len(set(images)) == len(images)
    page.get_by_role("button", name="Reset all").click()
    assert shown(page, "seed=0 grid=1 noise=const") == images[0]
    assert page.locator("#error").inner_text() == ""


def test_dragging_the_image_moves_through_images_nearby(page: Any) -> None:
    before = shown(page, "x=0&")
    box = page.locator("#frame").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 150, steps=3)
    page.mouse.up()
    assert shown(page, "!x=0&") != before
    page.get_by_role("button", name="Undo dragging").click()
    assert shown(page, "x=0&") == before


def test_the_image_is_saved_as_png(page: Any, tmp_path: Path) -> None:
    page.locator("#seed + input").fill("123456")  # beyond the slider
    shown(page, "seed=123456")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    assert download.value.suggested_filename == "seed123456.png"
    download.value.save_as(tmp_path / "saved.png")
    assert (tmp_path / "saved.png").read_bytes().startswith(b"\x89PNG")


def test_on_a_narrow_window_everything_is_below_the_image(page: Any) -> None:
    page.set_viewport_size({"width": 380, "height": 700})
    image, panel = page.locator("#frame").bounding_box(), page.locator("#panel").bounding_box()
    assert image["x"] >= 0
    assert image["x"] + image["width"] <= 380
    assert panel["y"] > image["y"] + image["height"]
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 380


def test_ctrl_c_ends_it_quietly(explorer: tuple[subprocess.Popen, str]) -> None:
    process, url = explorer
    assert url.startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("\n", "")
    assert process.returncode == 0


def test_a_missing_model_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explore", str(tmp_path / "gone.pkl")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
