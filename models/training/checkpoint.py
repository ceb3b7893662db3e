"""Snapshots: one file of tensors and plain containers, written atomically, refused when damaged."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from ..ranks import on_first_rank

FORMAT = 2
READABLE = (1, FORMAT)  # 1 is from before there were families of networks
PATTERN = "network-snapshot-*.pt"


def snapshot_path(run_dir: Path, cur_nimg: int) -> Path:
    """Where a run keeps its snapshot after `cur_nimg` images."""
    return run_dir / f"network-snapshot-{cur_nimg // 1000:06d}.pt"


def latest_snapshot(run_dir: Path) -> Path | None:
    """The newest snapshot in a run folder, or None."""
    return max(run_dir.glob(PATTERN), default=None)


@on_first_rank
def save_snapshot(path: Path, state: dict[str, Any], config: dict[str, Any]) -> None:
    """Writes a snapshot so that, whatever happens, `path` holds either the old file or the whole new one.

    Args:
        path: Where to write; the temporary file lies beside it.
        state: `TrainingState.state_dict()`.
        config: The run's configuration, JSON types only.
    """
    content = {"format": FORMAT, "config": json.dumps(config), "state": state}
    content["sha256"] = checksum([content["format"], content["config"], content["state"]])
    try:
        write_atomically(path, lambda file: torch.save(content, file))
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        free = shutil.disk_usage(path.parent).free / 1e6
        raise OSError(
            f"snapshot: cannot write {path} ({error}; {free:.0f} MB free); earlier snapshots are untouched"
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
    except FileNotFoundError:
        raise
    except Exception as error:  # torch raises many types for a damaged file
        reason = str(error).partition("\n")[0]
        raise ValueError(f"snapshot: {path} is truncated or not a snapshot ({reason})") from error
    if not isinstance(content, dict) or not {"format", "config", "state", "sha256"} <= content.keys():
        raise ValueError(f"snapshot: {path} is not a snapshot of gankern train")
    if content["format"] not in READABLE:
        raise ValueError(f"snapshot: {path} has format {content['format']}, expected one of {READABLE}")
    if checksum([content["format"], content["config"], content["state"]]) != content["sha256"]:
        raise ValueError(f"snapshot: {path} is damaged: its checksum does not match its content")
    return content["state"], json.loads(content["config"])


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


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Calls `write(file)` on a temporary file beside `path` and renames it when it is safely on the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    if os.name != "posix":  # only POSIX lets a directory be opened, and needs it for the rename to last
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
