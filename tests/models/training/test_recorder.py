"""What a run shows while it goes on, and that nothing of it can stop the run."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import OPTIONS, tiny_state
from tiny_growing import PROGAN, growing_state

from gankern.models.training import loop, recorder
from gankern.models.training.checkpoint import latest_snapshot, load_snapshot
from gankern.models.training.data import ImageData, open_data
from gankern.models.training.loop import train
from gankern.models.training.run_folder import append_metrics, read_notes, read_stats


class Listener:
    """A tracker that keeps what it hears."""

    name = "a listener"

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def scalars(self, cur_nimg: int, values: dict[str, float]) -> None:
        self.heard.append(("scalars", cur_nimg, values))

    def picture(self, cur_nimg: int, name: str, path: Path) -> None:
        self.heard.append(("picture", cur_nimg, name, path.name))

    def close(self) -> None:
        self.heard.append(("close",))


def test_a_tick_has_the_statistics_of_the_field(tmp_path: Path, digits8: ImageData) -> None:
    train(tiny_state(), digits8, OPTIONS, tmp_path, {})
    ticks = read_stats(tmp_path)
    assert [tick["Progress/tick"]["mean"] for tick in ticks] == [1, 2, 3, 4]
    first, second = ticks[:2]
    phases = {"Gmain": 5, "Dmain": 5, "Greg": 2, "Dreg": 2, "ema": 5, "data": 5}
    assert {name: first[f"Timing/{name}"]["num"] for name in phases} == phases
    assert "Timing/snapshot" in ticks[2]  # written after the second tick
    assert "Timing/pictures" in second
    seconds = {name: second[f"Timing/{name}"]["mean"] for name in ("sec_per_tick", "sec_per_kimg", "maintenance_sec")}
    assert seconds["sec_per_kimg"] == pytest.approx(seconds["sec_per_tick"] / 0.04)
    assert second["Timing/images_per_sec"]["mean"] == pytest.approx(40 / seconds["sec_per_tick"])
    in_phases = sum(second[f"Timing/{name}"]["mean"] * second[f"Timing/{name}"]["num"] for name in phases)
    assert in_phases / 1000 <= seconds["sec_per_tick"]
    passed = second["Timing/total_sec"]["mean"] - first["Timing/total_sec"]["mean"]
    assert passed == pytest.approx(seconds["sec_per_tick"] + seconds["maintenance_sec"], rel=0.02)


def test_a_growing_run_says_where_in_its_schedule_it_is(tmp_path: Path) -> None:
    train(growing_state(), open_data("digits:16", cond=True), PROGAN, tmp_path, {})
    ticks = read_stats(tmp_path)
    assert [tick["Progress/resolution"]["mean"] for tick in ticks] == [4, 8, 8, 8, 16, 16]
    assert all(0 < tick["Progress/alpha"]["mean"] <= 1 for tick in ticks)
    assert ticks[-1]["Progress/lod"]["mean"] == 0


def resumed(run_dir: Path) -> Any:
    state, snapshot = tiny_state(), latest_snapshot(run_dir)
    assert snapshot
    state.load_state_dict(load_snapshot(snapshot)[0])
    return state


def test_the_total_time_of_a_resumed_run_goes_on(tmp_path: Path, digits8: ImageData) -> None:
    train(tiny_state(), digits8, replace(OPTIONS, kimg=0.08), tmp_path, {})
    train(resumed(tmp_path), digits8, OPTIONS, tmp_path, {})
    totals = [tick["Timing/total_sec"]["mean"] for tick in read_stats(tmp_path)]
    assert totals == sorted(totals)
    assert totals[2] - totals[1] >= read_stats(tmp_path)[2]["Timing/sec_per_tick"]["mean"]
    assert read_notes(tmp_path) == [{"kimg": 0.08, "note": "resumed"}]


def test_a_run_that_is_stopped_says_so(tmp_path: Path, digits8: ImageData) -> None:
    state = tiny_state()
    train(state, digits8, OPTIONS, tmp_path, {}, stop=lambda: state.cur_nimg >= 64)
    assert read_notes(tmp_path) == [{"kimg": 0.064, "note": "stopped"}]
    assert ">stopped<" in (tmp_path / "report.html").read_text()


def test_the_report_is_there_while_the_run_goes_on(tmp_path: Path, digits8: ImageData) -> None:
    seen = []
    train(
        tiny_state(), digits8, OPTIONS, tmp_path, {},
        after_tick=lambda tick: seen.append((tmp_path / "report.html").read_text()),
    )  # fmt: skip
    assert all(">running<" in page and "time left" in page for page in seen)
    assert ">finished<" in (tmp_path / "report.html").read_text()


def test_trackers_hear_of_statistics_pictures_metrics_and_the_end(tmp_path: Path, digits8: ImageData) -> None:
    listener, state = Listener(), tiny_state()

    def measure(tick: int) -> None:
        if tick == 2:
            append_metrics(tmp_path, state.cur_nimg, {"swd": 1.5})

    train(state, digits8, OPTIONS, tmp_path, {}, after_tick=measure, trackers=[listener])
    heard = listener.heard
    assert heard[:2] == [("picture", 0, "reals", "reals.png"), ("picture", 0, "fakes", "fakes000000.png")]
    assert heard[-1] == ("close",)
    assert [nimg for what, nimg, *_ in heard[:-1] if what == "scalars"] == [40, 80, 80, 120, 160]
    assert ("scalars", 80, {"Metrics/swd": 1.5}) in heard
    values = next(entry[2] for entry in heard if entry[0] == "scalars")
    assert values["Loss/G/loss"] == read_stats(tmp_path)[0]["Loss/G/loss"]["mean"]


def fail(*args: Any, **kwargs: Any) -> None:
    raise OSError(28, "No space left on device")


class Broken(Listener):
    name = "a broken listener"
    scalars = picture = close = fail  # type: ignore[assignment]


WRITES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "stats.jsonl": lambda patch: patch.setattr(recorder, "append_stats", fail),
    "reals.png": lambda patch: patch.setattr(loop, "write_reals", fail),
    "sample grids": lambda patch: patch.setattr(loop, "write_samples", fail),
    "curves.svg": lambda patch: patch.setattr(recorder, "write_curves", fail),
    "report.html": lambda patch: patch.setattr(recorder, "write_report", fail),
    "a broken listener": lambda patch: None,
}


@pytest.mark.parametrize("what", WRITES)
def test_a_write_that_fails_is_said_once_and_the_run_is_the_same(
    tmp_path: Path, digits8: ImageData, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    options, whole, state = replace(OPTIONS, kimg=0.08), tiny_state(), tiny_state()
    (tmp_path / "whole").mkdir()
    train(whole, digits8, options, tmp_path / "whole", {})
    WRITES[what](monkeypatch)
    state = tiny_state()
    train(state, digits8, options, tmp_path, {}, trackers=[Broken()] if "listener" in what else [])
    torch.testing.assert_close(state.state_dict()["G"], whole.state_dict()["G"], rtol=0, atol=0)
    warnings = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("kimg")]
    said = f"cannot write {what} ([Errno 28] No space left on device); the run goes on"
    assert warnings == [f"warning: {said}"]
    assert [note["note"] for note in read_notes(tmp_path)] == [
        f"could not write {what}: [Errno 28] No space left on device"
    ]


def test_even_a_run_folder_that_takes_nothing_does_not_stop_the_statistics(
    tmp_path: Path, digits8: ImageData, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for write in WRITES.values():
        write(monkeypatch)
    monkeypatch.setattr(recorder, "append_note", fail)
    train(tiny_state(), digits8, OPTIONS, tmp_path, {}, trackers=[Broken()])
    warnings = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("kimg")]
    assert len(warnings) == len(WRITES) + 1  # the notes are a kind of their own


def test_a_loss_that_is_not_a_number_is_no_failed_write(
    tmp_path: Path, digits8: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "to_float", lambda x: x.float() * torch.nan)
    with pytest.raises(FloatingPointError):
        train(tiny_state(), digits8, OPTIONS, tmp_path, {})
    assert not (tmp_path / "stats.jsonl").exists()


def test_stats_are_lines_of_json_with_count_mean_and_deviation(tmp_path: Path, digits8: ImageData) -> None:
    train(tiny_state(), digits8, OPTIONS, tmp_path, {})
    for line in (tmp_path / "stats.jsonl").read_text().splitlines():
        assert all(set(value) == {"num", "mean", "std"} for value in json.loads(line).values())
