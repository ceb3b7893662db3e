"""Run folders: numbers, resuming, and histories."""

import json
from pathlib import Path
from typing import Any

import pytest

from gankern.models.training.run_folder import (
    append_metrics,
    append_note,
    append_stats,
    clean_up,
    continue_run,
    find_snapshots,
    new_run_dir,
    read_metrics,
    read_notes,
    read_stats,
    write_config,
)


def tick(kimg: float) -> dict[str, dict[str, float]]:
    return {"Progress/kimg": {"num": 1, "mean": kimg, "std": 0}}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run of 12 kimg with snapshots at 4 and 8, and a half-written line of statistics."""
    run_dir = new_run_dir(tmp_path / "runs", "digits")
    write_config(run_dir, {"preset": "digits"})
    for kimg in range(2, 13, 2):
        append_stats(run_dir, tick(kimg))
        append_metrics(run_dir, kimg * 1000, {"swd": 100.0 - kimg})
        (run_dir / f"fakes{kimg:06d}.png").touch()
    with (run_dir / "stats.jsonl").open("a") as file:
        file.write('{"Progress/ki')
    for kimg in (4, 8):
        (run_dir / f"network-snapshot-{kimg:06d}.pt").touch()
    return run_dir


def test_runs_are_numbered_one_above_the_highest(tmp_path: Path) -> None:
    assert new_run_dir(tmp_path, "a").name == "00000-a"
    (tmp_path / "00041-other").mkdir()
    (tmp_path / "notes").mkdir()
    assert new_run_dir(tmp_path, "b").name == "00042-b"


def test_resume_finds_the_newest_snapshot(run_dir: Path) -> None:
    newest = run_dir / "network-snapshot-000008.pt"
    new_run_dir(run_dir.parent, "without-a-snapshot")
    assert find_snapshots("latest", run_dir.parent)[0] == newest
    assert find_snapshots(str(run_dir), Path("elsewhere"))[0] == newest
    assert find_snapshots(str(newest), Path("elsewhere"))[0] == newest


@pytest.mark.parametrize("resume", ["latest", "no/such/file.pt"])
def test_nothing_to_resume_is_an_error(tmp_path: Path, resume: str) -> None:
    with pytest.raises(FileNotFoundError, match="resume"):
        find_snapshots(resume, tmp_path)


def test_the_newest_snapshot_continues_in_its_folder_without_what_came_after(run_dir: Path) -> None:
    assert continue_run(run_dir / "network-snapshot-000008.pt", 8000, run_dir.parent, "digits") == run_dir
    clean_up(run_dir, 8000)
    assert [t["Progress/kimg"]["mean"] for t in read_stats(run_dir)] == [2, 4, 6, 8]
    assert read_metrics(run_dir) == [{"kimg": kimg, "swd": 100 - kimg} for kimg in (2, 4, 6, 8)]


def test_an_older_snapshot_continues_in_a_new_folder_with_its_history(run_dir: Path) -> None:
    old_stats = (run_dir / "stats.jsonl").read_text()
    branch = continue_run(run_dir / "network-snapshot-000004.pt", 4000, run_dir.parent, "digits")
    clean_up(branch, 4000)
    assert branch.name == "00001-digits"
    assert [t["Progress/kimg"]["mean"] for t in read_stats(branch)] == [2, 4]
    assert [values["kimg"] for values in read_metrics(branch)] == [2, 4]
    assert [p.name for p in sorted(branch.glob("fakes*.png"))] == ["fakes000002.png"]
    assert (run_dir / "stats.jsonl").read_text() == old_stats
    assert json.loads((run_dir / "training_options.json").read_text())


def test_a_damaged_newest_snapshot_is_set_aside_and_the_run_goes_on_in_its_folder(run_dir: Path) -> None:
    older, newest = (run_dir / f"network-snapshot-{kimg:06d}.pt" for kimg in (4, 8))
    (run_dir / ".network-snapshot-000012.pt.1234.tmp").touch()  # what a killed process was writing
    assert continue_run(older, 4000, run_dir.parent, "digits", damaged=[newest]) == run_dir
    clean_up(run_dir, 4000, damaged=[newest])
    assert find_snapshots("latest", run_dir.parent) == [older]
    assert (run_dir / "network-snapshot-000008.pt.damaged").exists()
    assert not list(run_dir.glob("*.tmp"))
    assert [t["Progress/kimg"]["mean"] for t in read_stats(run_dir)] == [2, 4]


def test_lines_that_a_full_disk_did_not_take_are_written_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_stats(tmp_path, tick(1))
    real = Path.open

    def full(path: Path, mode: str) -> Any:
        file = real(path, mode)
        file.write('{"half a li')  # what fits is written, the rest is not
        file.flush()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        for kimg in (2, 3):
            with pytest.raises(OSError, match="No space left"):
                append_stats(tmp_path, tick(kimg))
    assert [t["Progress/kimg"]["mean"] for t in read_stats(tmp_path)] == [1]
    append_stats(tmp_path, tick(4))
    assert [t["Progress/kimg"]["mean"] for t in read_stats(tmp_path)] == [1, 2, 3, 4]


def test_notes_survive_a_kill_while_one_was_written(tmp_path: Path) -> None:
    assert read_notes(tmp_path) == []
    append_note(tmp_path, 4000, "stopped")
    with (tmp_path / "notes.jsonl").open("a") as file:
        file.write('{"kimg": 8.0, "no')
    assert read_notes(tmp_path) == [{"kimg": 4.0, "note": "stopped"}]
