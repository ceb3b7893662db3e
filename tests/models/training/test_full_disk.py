"""A run that cannot write for a while, for whatever reason, goes on and has everything in the end."""

import builtins
import errno
import io
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from test_loop import losses, run
from tiny import OFTEN, OPTIONS, tiny_state

from gankern.models.training import loop
from gankern.models.training.checkpoint import checksum, latest_snapshot, load_snapshot, save_snapshot, snapshots
from gankern.models.training.data import ImageData

Capture = pytest.CaptureFixture[str]
TICK = round(OPTIONS.tick_kimg * 1000)


def final(run_dir: Path) -> str:
    path = latest_snapshot(run_dir)
    assert path
    return checksum(load_snapshot(path)[0])


class Disk:
    """Refuses to open files for writing whose path holds `refused`, with the system's error `number`."""

    def __init__(self, number: int = errno.ENOSPC) -> None:
        self.number = number
        self.refused: str | None = None
        self.times = 0
        self.open = io.open

    def __call__(self, file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if self.refused and self.refused in str(file) and set(mode) & set("wax+"):
            self.times += 1
            raise OSError(self.number, os.strerror(self.number), str(file))
        return self.open(file, mode, *args, **kwargs)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(io, "open", disk)
    monkeypatch.setattr(builtins, "open", disk)
    return disk


SITES = ("reals.png", "fakes", "timeline.png", "stats.jsonl", "network-snapshot")
REASONS = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EMFILE)
REFUSED = [(site, errno.ENOSPC) for site in SITES] + [("", number) for number in REASONS]


@pytest.mark.parametrize(
    ("site", "number"), REFUSED, ids=[f"{site or 'everything'}-{os.strerror(number)}" for site, number in REFUSED]
)
def test_a_run_outlives_a_time_in_which_it_cannot_write_and_nothing_is_missing_after_it(
    tmp_path: Path, digits8: ImageData, whole: Path, disk: Disk, site: str, number: int, capsys: Capture
) -> None:
    def heal(tick: int) -> None:
        if tick == 2:  # of four
            disk.refused = None

    run_dir = tmp_path / "run"
    run_dir.mkdir()
    disk.refused, disk.number = site or str(run_dir), number
    loop.train(tiny_state(OFTEN), digits8, OFTEN, run_dir, {}, after_tick=heal)
    assert disk.times > 0
    assert f"{os.strerror(number)}" in capsys.readouterr().err
    assert losses(run_dir) == losses(whole)
    assert final(run_dir) == final(whole)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS], ids=os.strerror)
def test_a_last_snapshot_that_cannot_be_written_is_an_error_and_the_one_before_stays(
    tmp_path: Path, digits8: ImageData, whole: Path, disk: Disk, number: int
) -> None:
    def fail(tick: int) -> None:
        if tick == 3:
            disk.refused = "network-snapshot"

    run_dir = tmp_path / "run"
    run_dir.mkdir()
    disk.number = number
    with pytest.raises(OSError, match=rf"cannot write .*{os.strerror(number)}; it needs \d+ MB, \d+ MB free"):
        loop.train(tiny_state(OFTEN), digits8, OFTEN, run_dir, {}, after_tick=fail)
    assert load_snapshot(snapshots(run_dir)[0])[0]["cur_nimg"] == 3 * TICK
    disk.refused = None
    run(run_dir, digits8, OFTEN, resume=True)
    assert losses(run_dir)[:3] == losses(whole)[:3]
    assert final(run_dir) == final(whole)


def test_space_is_looked_for_before_a_snapshot_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(torch, "save", lambda *args: pytest.fail("it began to write"))
    with pytest.raises(OSError, match=r"the disk is full; it needs 5 MB, 0 MB free"):
        save_snapshot(tmp_path / "network-snapshot-000000.pt", {"G": torch.zeros(1_000_000)}, {})


def test_a_disk_that_is_really_full_leaves_the_old_snapshot(tmp_path: Path) -> None:
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"cannot mount a small disk: {mount.stderr.decode().strip()}")
    try:
        path = tmp_path / "network-snapshot-000000.pt"
        save_snapshot(path, {"G": torch.zeros(200_000)}, {})
        before = path.read_bytes()
        for numel in (400_000, 10_000_000):  # found out while writing; and beforehand
            with pytest.raises(OSError, match=r"cannot write .*; it needs \d+ MB, \d+ MB free"):
                save_snapshot(path, {"G": torch.zeros(numel)}, {})
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == [path.name]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_run_whose_folder_is_deleted_makes_it_again(
    tmp_path: Path, digits8: ImageData, whole: Path, capsys: Capture
) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()

    def delete(tick: int) -> None:
        if tick == 2:
            shutil.rmtree(run_dir)

    loop.train(tiny_state(OFTEN), digits8, OFTEN, run_dir, {"preset": "x"}, after_tick=delete)
    assert f"{run_dir} was gone; made again" in capsys.readouterr().err
    assert final(run_dir) == final(whole)
    assert [tick["Progress/kimg"]["mean"] for tick in losses(run_dir)] == [0.12, 0.16]
    assert (run_dir / "training_options.json").exists()


@pytest.mark.parametrize("terminal", [False, True], ids=["log", "terminal"])
def test_a_run_outlives_its_terminal(
    tmp_path: Path, digits8: ImageData, whole: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    class Gone(io.StringIO):
        def isatty(self) -> bool:
            return terminal

        def write(self, text: str) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr("sys.stderr", Gone())
        patched.setattr("gankern.models.training.progress.tqdm", None)
        run(tmp_path / "run", digits8, OFTEN)
    assert losses(tmp_path / "run") == losses(whole)
