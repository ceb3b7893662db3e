"""Snapshots: one file of tensors and plain containers, written atomically, refused when damaged."""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .atomic import write_atomically

FORMAT = 2
READABLE = (1, FORMAT)  # 1 is from before there were families of networks
PATTERN = "network-snapshot-*.pt"
SLACK = 1 << 20  # bytes of a file beside its tensors, generously


def snapshot_path(run_dir: Path, cur_nimg: int) -> Path:
    """Where a run keeps its snapshot after `cur_nimg` images."""
    return run_dir / f"network-snapshot-{cur_nimg // 1000:06d}.pt"


def snapshots(run_dir: Path) -> list[Path]:
    """The snapshots in a run folder, newest first."""
    return sorted(run_dir.glob(PATTERN), reverse=True)


def latest_snapshot(run_dir: Path) -> Path | None:
    """The newest snapshot in a run folder, or None."""
    return next(iter(snapshots(run_dir)), None)


def save_snapshot(path: Path, state: dict[str, Any], config: dict[str, Any]) -> None:
    """Writes a snapshot so that, whatever happens, `path` holds either the old file or the whole new one.

    Args:
        path: Where to write; the temporary file lies beside it.
        state: `TrainingState.state_dict()`.
        config: The run's configuration, JSON types only.

    Raises:
        FloatingPointError: The state holds a NaN or an infinity; nothing is written.
        OSError: It cannot be written; the message says what it needs and what the disk has.
    """
    check_finite(state)
    need = sum(tensor.nbytes for _, tensor in _tensors(state, "state")) + SLACK
    try:
        if need > shutil.disk_usage(path.parent).free:
            raise OSError("the disk is full")  # before anything is written: others need what is left
        content = {"format": FORMAT, "config": json.dumps(config), "state": state}
        content["sha256"] = checksum([content["format"], content["config"], content["state"]])
        write_atomically(path, lambda file: torch.save(content, file))
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        reason = (getattr(error, "strerror", None) or str(error)).partition("\n")[0]
        have = shutil.disk_usage(path.parent).free / 1e6 if path.parent.exists() else 0.0
        raise OSError(
            f"snapshot: cannot write {path} ({reason}; it needs {need / 1e6:.0f} MB, {have:.0f} MB free);"
            " earlier snapshots are untouched"
        ) from error


def load_snapshot(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a snapshot into memory, without executing anything from it.

    Returns:
        The state, its tensors on the CPU, and the configuration that `save_snapshot` was given.

    Raises:
        ValueError: The file is truncated, damaged or not a snapshot; it is named.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError, MemoryError):  # these say nothing about what is in the file
        raise
    except Exception as error:  # torch raises many types for a damaged file
        reason = str(error).partition("\n")[0].partition(". ")[0]  # the rest is about torch
        raise ValueError(f"snapshot: {path} is truncated or not a snapshot ({reason})") from error
    if not isinstance(content, dict) or not {"format", "config", "state", "sha256"} <= content.keys():
        raise ValueError(f"snapshot: {path} is not a snapshot of gankern train")
    if content["format"] not in READABLE:
        raise ValueError(f"snapshot: {path} has format {content['format']}, expected one of {READABLE}")
    if checksum([content["format"], content["config"], content["state"]]) != content["sha256"]:
        raise ValueError(f"snapshot: {path} is damaged: its checksum does not match its content")
    return content["state"], json.loads(content["config"])


def load_newest(paths: list[Path]) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Reads the first of several snapshots, newest first, that is whole; names on stderr those that are not.

    Returns:
        Its path, and what `load_snapshot` gives for it.

    Raises:
        ValueError: None is whole; of several the newest is named.
    """
    damaged: list[ValueError] = []
    for path in paths:
        try:
            state, config = load_snapshot(path)
        except ValueError as error:
            damaged.append(error)
            continue
        for reason in damaged:
            print(f"warning: {reason}; going back to {path.name}", file=sys.stderr)
        return path, state, config
    raise ValueError(f"{damaged[0]}{'; neither is any older one of the run whole' if len(damaged) > 1 else ''}")


def remove_old(run_dir: Path, keep: int) -> None:
    """Deletes all but the newest `keep` snapshots, if the newest, read back from the disk, is whole.

    Raises:
        OSError: It is not, or an old one cannot be deleted.
    """
    newest, *others = snapshots(run_dir)
    if len(others) < keep:
        return
    try:
        load_snapshot(newest)
    except ValueError as error:
        raise OSError(f"{error}; no older snapshot is deleted") from error
    for path in others[keep - 1 :]:
        path.unlink()


def set_aside(path: Path) -> None:
    """Renames a damaged snapshot to *.damaged, so that nobody takes it for the newest again."""
    path.rename(path.with_name(f"{path.name}.damaged"))


def remove_litter(run_dir: Path) -> None:
    """Deletes what a killed process was writing; nobody else may be writing there."""
    for path in run_dir.glob(".*.tmp"):
        with suppress(OSError):
            path.unlink()


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested containers, each with where it is."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _tensors(item, f"{name}.{key}")


def check_finite(state: dict[str, Any]) -> None:
    for name, tensor in _tensors(state, "state"):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            where = name.removeprefix("state.")
            raise FloatingPointError(f"snapshot: {where} holds a NaN or an infinity; nothing is written")


def checksum(value: Any) -> str:
    """SHA-256 over nested dicts, lists, tuples, tensors and plain values: their structure, types and bytes."""
    digest = hashlib.sha256()

    def update(value: Any) -> None:
        if isinstance(value, Tensor):
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        elif isinstance(value, dict):
            digest.update(f"dict{len(value)}".encode())
            for key, item in value.items():
                digest.update(repr(key).encode())
                update(item)
        elif isinstance(value, list | tuple):
            digest.update(f"{type(value).__name__}{len(value)}".encode())
            for item in value:
                update(item)
        else:
            digest.update(f"{type(value).__name__}{value!r}".encode())

    update(value)
    return digest.hexdigest()
