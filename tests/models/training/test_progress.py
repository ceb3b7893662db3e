"""The progress line."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import OPTIONS

from gankern.models.training.pace import Pace
from gankern.models.training.progress import Progress, clock


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> Pace:
    """Of a run that was resumed at 1 kimg of 40 and takes 10 seconds for the next 2000 images."""
    seconds = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: seconds[0])
    pace = Pace(replace(OPTIONS, kimg=40), 1000)
    seconds[0] += 10
    pace.step(3000, None)
    return pace


def test_a_log_file_gets_one_line_per_tick(capsys: pytest.CaptureFixture[str], pace: Pace, tmp_path: Path) -> None:
    progress = Progress(40_000, pace, tmp_path / "log.txt")
    progress.tick("G 1.00")
    assert capsys.readouterr().err == "kimg 3.0/40  200 images/s  3:05 left  G 1.00\n"
    assert not (tmp_path / "log.txt").exists()  # what is printed is copied there anyway


@pytest.mark.parametrize("with_tqdm", [True, False])
def test_a_terminal_gets_one_line_that_changes_and_the_log_a_line_per_tick(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, pace: Pace, tmp_path: Path, with_tqdm: bool
) -> None:
    if not with_tqdm:
        monkeypatch.setattr("gankern.models.training.progress.tqdm", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    progress = Progress(40_000, pace, tmp_path / "log.txt")
    for text in ("G 1.00", "G 2.00"):
        progress.tick(text)
    progress.close()
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "kimg 3.0/40  200 images/s  3:05 left  G 2.00" in shown.split("\r")[-1]
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert lines == [f"kimg 3.0/40  200 images/s  3:05 left  {text}" for text in ("G 1.00", "G 2.00")]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01"), (2 * 86400 + 3725, "2d 01:02:05")],
)
def test_times_read_as_clocks(seconds: float, text: str) -> None:
    assert clock(seconds) == text
