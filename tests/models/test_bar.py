"""The bar that a command draws."""

from __future__ import annotations

import sys
import time

import pytest

from gankern.models.bar import Bar


def test_the_bar_writes_one_line_per_stage_into_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar()
    for done in range(1, 5):
        bar("images", done, 4)
    bar("SWD", 1, 1)
    first, second = capsys.readouterr().err.splitlines()
    assert first.strip().startswith("images ############################## 4/4")
    assert second.strip().startswith("SWD ############################## 1/1")


def test_it_tells_the_speed_and_the_time_from_the_end_of_the_stage_before(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    bar = Bar()
    for what, seconds in (("load", 10), ("draw", 4)):
        now[0] += seconds
        bar(what, 2, 2)
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("2/2  0.2/s  10 s")
    assert second.endswith("2/2  0.5/s  4 s")


def test_a_terminal_sees_the_time_left(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bar = Bar()
    drawn = []
    for part in bar.counting("frames", "abcd", 4):
        drawn.append(part)
        now[0] += 30
    assert drawn == list("abcd")
    lines = capsys.readouterr().err.split("\r")
    assert "1/4  0.0333/s  1:30 left" in lines[1]
    assert lines[4].strip().endswith("120 s\x1b[K")
