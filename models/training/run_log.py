"""log.txt: everything that a run prints."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

LOG = "log.txt"


class RunLog:
    """Copies lines into a run's log.txt as they are completed; of a line drawn over and over, what it was at last.

    What is printed before there is a run folder waits for it. A log that cannot be written stops nothing.
    """

    def __init__(self) -> None:
        self.early: list[str] = []
        self.path: Path | None = None

    def open(self, run_dir: Path) -> None:
        """From here on lines go to the log of this folder, which keeps what it has."""
        self.path = run_dir / LOG
        early, self.early = self.early, []
        self.write("".join(early))

    def write(self, text: str) -> None:
        if self.path is None:
            self.early.append(text)
            return
        with contextlib.suppress(OSError), self.path.open("a") as file:
            file.write(text)

    @contextlib.contextmanager
    def copying(self) -> Iterator["RunLog"]:
        """Inside it, standard output and standard error are copied; and what ends it, if that is an error."""
        before = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = Copied(sys.stdout, self), Copied(sys.stderr, self)  # type: ignore[assignment]
        try:
            yield self
        except Exception as error:
            self.write(f"{type(error).__name__}: {error}\n")
            raise
        finally:
            sys.stdout, sys.stderr = before


class Copied:
    """A stream that works as before, and whose complete lines are copied to a log.

    Where nobody reads any more, or never did, nothing fails: the log has it.
    """

    def __init__(self, stream: TextIO | None, log: RunLog):
        self.stream = stream
        self.log = log
        self.line = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        *complete, line = (self.line + text).split("\n")
        self.line = line[max(line.rfind("\r", 0, -1), 0) :]
        if complete:
            self.log.write("".join(f"{_as_last_drawn(line)}\n" for line in complete))
        if self.stream is not None:
            with contextlib.suppress(OSError):
                self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        if self.stream is not None:
            with contextlib.suppress(OSError):
                self.stream.flush()


def _as_last_drawn(line: str) -> str:
    """What is left of a line after carriage returns, without the escape that clears its rest."""
    return line.rstrip("\r").rpartition("\r")[2].replace("\x1b[K", "")
