"""One process at a time writes a run folder."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

try:
    import fcntl
except ModuleNotFoundError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
TAKEN = (errno.EACCES, errno.EAGAIN)


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Holds the lock of a run folder, and says in its file who does: {"pid", "host"}.

    The lock is the operating system's, which releases it when its process ends, however that happens: one that a dead
    process left behind is taken over at once, also by another machine, where the folder is shared.

    Raises:
        OSError: Another process holds it; it is named.
    """
    path = run_dir / LOCK
    with path.open("a+") as file:  # the lock goes with the process, not with children that inherit the file
        if fcntl is not None:
            _lock(path, file)
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)  # it stays: another process may have opened it meanwhile


def _lock(path: Path, file: IO[str]) -> None:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in TAKEN:
            only = f"let one run at a time use {path.parent}"
            print(f"warning: {path} cannot be locked ({error.strerror}); {only}", file=sys.stderr)
            return
        file.seek(0)
        raise OSError(f"{path.parent} is in use by {_holder(file.read())}; wait for it, or stop it") from error


def _holder(text: str) -> str:
    try:
        found = json.loads(text)
        return f"process {found['pid']} on {found['host']}"
    except ValueError:  # it is just being written
        return "another process"
