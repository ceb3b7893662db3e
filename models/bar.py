"""How far a command is, while somebody waits for it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from .training.progress import clock

Part = TypeVar("Part")


class Bar:
    """Draws progress on stderr: a bar that fills on a terminal, one line per stage in a log file."""

    WIDTH = 30

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self.what = ""
        self.start = self.last = time.perf_counter()
        self.shown = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Called with the name of a stage, how many of its parts are done, at least one, and of how many."""
        now = time.perf_counter()
        if what != self.what:
            self.what, self.start = what, self.last  # a stage began when the one before ended
        self.last = now
        if done < total and (not self.terminal or now - self.shown < 0.1):
            return
        self.shown = now
        spent = max(now - self.start, 1e-9)
        time_left = f"{clock(spent / done * (total - done))} left" if done < total else f"{spent:.0f} s"
        filled = self.WIDTH * done // total
        bar = "#" * filled + "." * (self.WIDTH - filled)
        line = f"{what:>16} {bar} {done}/{total}  {done / spent:.3g}/s  {time_left}"
        start, end = ("\r", "\x1b[K") if self.terminal else ("", "")
        print(f"{start}{line}{end}", end="" if done < total else "\n", file=sys.stderr, flush=True)

    def counting(self, what: str, parts: Iterable[Part], total: int) -> Iterator[Part]:
        """The parts of a stage, each counted when the next one is asked for."""
        for done, part in enumerate(parts, 1):
            yield part
            self(what, done, total)
