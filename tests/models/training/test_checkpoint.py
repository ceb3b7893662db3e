"""Snapshots survive crashes, and damage is noticed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gankern.models.training import checkpoint
from gankern.models.training.checkpoint import checksum, load_snapshot, save_snapshot

STATE = {"G": {"w": torch.arange(6.0).reshape(2, 3), "empty": torch.zeros(0)}, "betas": (0.0, 0.99), "none": None}
CONFIG = {"preset": "digits", "training": {"batch": 8}}


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    path = tmp_path / "network-snapshot-000001.pt"
    save_snapshot(path, STATE, CONFIG)
    return path


def test_a_snapshot_gives_back_what_it_was_given(snapshot: Path) -> None:
    state, config = load_snapshot(snapshot)
    assert config == CONFIG
    assert torch.equal(state["G"]["w"], STATE["G"]["w"])
    assert state["betas"] == (0.0, 0.99)
    assert state["none"] is None


def test_a_snapshot_is_a_plain_torch_file(snapshot: Path) -> None:
    assert torch.load(snapshot, weights_only=True)["format"] == checkpoint.FORMAT


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_snapshot_is_refused_by_name(snapshot: Path, share: float) -> None:
    content = snapshot.read_bytes()
    snapshot.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"network-snapshot-000001\.pt is truncated or not a snapshot"):
        load_snapshot(snapshot)


def test_a_changed_byte_is_noticed(snapshot: Path) -> None:
    content = bytearray(snapshot.read_bytes())
    at = content.index(torch.tensor([4.0, 5.0]).numpy().tobytes())
    content[at] ^= 1
    snapshot.write_bytes(content)
    with pytest.raises(ValueError, match=r"network-snapshot-000001\.pt"):
        load_snapshot(snapshot)


@pytest.mark.parametrize("content", [{"G": 1}, torch.zeros(3)])
def test_another_torch_file_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt is not a snapshot"):
        load_snapshot(tmp_path / "other.pt")


def test_the_checksum_sees_every_kind_of_difference() -> None:
    values: list[object] = [1, 1.0, "1", None, True, (1,), [1], {"1": 1}, {1: 1}]
    values += [torch.ones(1), torch.ones(1, 1), torch.ones(1).int()]
    assert len({checksum(value) for value in values}) == len(values)
    assert checksum({"a": torch.ones(2, 3)}) == checksum({"a": torch.ones(3, 2).T})


def test_a_failed_write_leaves_the_old_snapshot_and_no_litter(snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = snapshot.read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match=r"cannot write .*network-snapshot-000001\.pt .*No space left.* MB free"):
        save_snapshot(snapshot, {"G": {}}, CONFIG)
    assert snapshot.read_bytes() == old
    assert os.listdir(snapshot.parent) == [snapshot.name]


def test_a_kill_between_write_and_rename_leaves_the_old_snapshot(snapshot: Path) -> None:
    code = (
        "import os, pathlib, signal, sys\n"
        "from gankern.models.training.checkpoint import save_snapshot\n"
        "os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)\n"
        "save_snapshot(pathlib.Path(sys.argv[1]), {'G': 'new'}, {})\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(snapshot)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert load_snapshot(snapshot)[1] == CONFIG
    assert checkpoint.latest_snapshot(snapshot.parent) == snapshot
