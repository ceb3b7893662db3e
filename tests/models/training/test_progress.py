"""The progress line."""

import pytest

from gankern.models.training.progress import Progress, clock


def test_a_log_file_gets_one_line_per_tick(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.perf_counter", iter([100.0, 110.0]).__next__)
    progress = Progress(start_nimg=1000, total_nimg=40_000)
    progress.tick(3000, "G 1.00")
    assert capsys.readouterr().err == "kimg 3.0/40  200 images/s  3:05 left  G 1.00\n"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01")])
def test_times_read_as_clocks(seconds: float, text: str) -> None:
    assert clock(seconds) == text
