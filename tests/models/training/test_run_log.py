"""log.txt."""

import sys
from pathlib import Path

import pytest

from gankern.models.training.run_log import RunLog


def test_everything_printed_is_in_the_log_also_what_was_printed_before_there_was_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.txt").write_text("an earlier session\n")
    with RunLog().copying() as log:
        print("configuration")
        log.open(tmp_path)
        print("warning", file=sys.stderr)
        print("no newline yet", end="")
        print(" but now")
    print("afterwards")
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert lines == ["an earlier session", "configuration", "warning", "no newline yet but now"]
    shown = capsys.readouterr()
    assert shown.out == "configuration\nno newline yet but now\nafterwards\n"
    assert shown.err == "warning\n"


def test_of_a_line_drawn_over_and_over_the_last_state_is_logged(tmp_path: Path) -> None:
    with RunLog().copying() as log:
        log.open(tmp_path)
        for k in range(1000):
            print(f"\r{k} of 1000\x1b[K", end="", file=sys.stderr)
            assert len(sys.stderr.line) < 30  # type: ignore[attr-defined]
        print(file=sys.stderr)
    assert (tmp_path / "log.txt").read_text() == "999 of 1000\n"


def test_the_error_that_ends_a_run_is_logged(tmp_path: Path) -> None:
    log = RunLog()
    log.open(tmp_path)
    with pytest.raises(ZeroDivisionError), log.copying():
        _ = 1 / 0
    assert (tmp_path / "log.txt").read_text() == "ZeroDivisionError: division by zero\n"


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunLog().copying() as log:
        log.open(tmp_path / "gone")
        print("still shown")
    assert capsys.readouterr().out == "still shown\n"
    assert not (tmp_path / "gone").exists()
