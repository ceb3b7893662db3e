"""Notices that a rank is gone, and ends the others with one sentence instead of letting them wait for it.

Each rank tells a common store once a second that it is alive, and how far it is; a thread of each reads what the others
say. That works the same for every backend, and while the main thread waits for the GPU or for another rank.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import NoReturn

import torch.distributed as dist

FINISHED = "finished"
EXPECTED = (ValueError, OSError, ModuleNotFoundError, FloatingPointError, MemoryError)  # their message says it all
PATIENCE = 4.0  # seconds in which a rank that is gone is noticed to be so
GONE = "is gone: killed, perhaps for lack of memory"


@dataclass
class Sign:
    """What a rank says of itself."""

    pid: int
    host: str
    beats: int = 0  # grows as long as the process runs
    steps: int = 0  # grows when its main thread has done its part of something that all ranks do together
    busy: int = 0  # above 0 while the others have to wait for it, for as long as it takes
    end: str | None = None  # why it ended, a sentence; FINISHED for no reason to complain


class Watch:
    """This rank's signs of life, and what it makes of the others'.

    Args:
        store: Client of the ranks' store, used by nobody else.
        command: Name of the program in its last sentence.
        rank, world_size: Number of this rank and of all.
        timeout: Seconds without a sign after which a rank counts as gone.
    """

    def __init__(self, store: dist.Store, command: str, rank: int, world_size: int, timeout: float):
        self.store, self.command, self.rank, self.world_size, self.timeout = store, command, rank, world_size, timeout
        self.own = Sign(os.getpid(), socket.gethostname())
        now = time.monotonic()
        self.peers: dict[int, Sign | None] = {r: None for r in range(world_size) if r != rank}
        self.heard = dict.fromkeys(self.peers, now)  # when a rank last said something new
        self.moved = dict.fromkeys(range(world_size), now)  # when a rank last made a step
        self.steps_seen = 0
        self.advice: Callable[[], str] = lambda: ""
        self.stderr = sys.stderr
        self.leaving = False  # whether nothing is to be said of others any more
        self.telling = threading.Lock()
        self.thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        """Says that this rank has done its work, and listens no more."""
        self.leaving = True
        self.own.end = FINISHED
        with contextlib.suppress(RuntimeError):  # the store may be gone already
            self._publish()

    def fail(self, error: BaseException) -> NoReturn:
        """Ends this process for an error of its own or, if that is why there is one, for a rank that is gone."""
        self.leaving = True
        cause = self._find_cause() if isinstance(error, RuntimeError) else None
        if cause is None:
            if not isinstance(error, (*EXPECTED, KeyboardInterrupt)):
                traceback.print_exception(error, file=self.stderr)
            reason = str(error) if isinstance(error, EXPECTED) else f"{type(error).__name__} {error}".rstrip()
            cause = f"{describe(self.rank, self.own)}: {reason}"
        self._end(cause)

    def _run(self) -> None:
        while self.own.end is None:
            try:
                self._publish()
                self._read()
                lost = None if self.leaving or self.own.busy else self._lost()
            except RuntimeError:
                lost = "the process that the ranks meet at is gone"
            if lost and not self.leaving:
                self._end(lost)
            time.sleep(min(1.0, self.timeout / 10))

    def _publish(self) -> None:
        self.own.beats += 1
        if self.own.steps != self.steps_seen:
            self.steps_seen, self.moved[self.rank] = self.own.steps, time.monotonic()
        self.store.set(sign_key(self.rank), json.dumps(asdict(self.own)))

    def _read(self) -> None:
        for r, before in self.peers.items():
            if not self.store.check([sign_key(r)]):
                continue
            sign = Sign(**json.loads(self.store.get(sign_key(r))))
            if sign != before:
                self.heard[r] = time.monotonic()
                if before is None or sign.steps != before.steps or sign.busy:
                    self.moved[r] = time.monotonic()
                self.peers[r] = sign

    def _lost(self) -> str | None:
        """Why the ranks cannot go on, or None."""
        ended = self._ended()
        if ended:
            return ended
        now = time.monotonic()
        for r, sign in self.peers.items():
            if sign is not None and sign.end == FINISHED:
                continue
            if now - self.heard[r] > self.timeout:
                return f"{describe(r, sign)} has given no sign of life for {self.timeout:g} s"
            if sign is not None and now - self.heard[r] > PATIENCE and self._has_gone(sign):
                return f"{describe(r, sign)} {GONE}"
            behind = sign is not None and sign.steps < self.own.steps
            if behind and min(now - self.moved[r], now - self.moved[self.rank]) > self.timeout:
                return f"{describe(r, sign)} is stuck: the others have been waiting for {self.timeout:g} s"
        return None

    def _ended(self) -> str | None:
        """Why a rank ended that did not finish, in its own words or its starter's."""
        ends = (sign.end for sign in self.peers.values() if sign is not None)
        return next((end for end in ends if end not in (None, FINISHED)), None)

    def _find_cause(self) -> str | None:
        """Which other rank ended, now that talking to one has failed; None if all are there."""
        deadline = time.monotonic() + PATIENCE
        try:
            while time.monotonic() < deadline:
                self._read()
                if ended := self._ended():
                    return ended
                for r, sign in self.peers.items():
                    if sign is None or sign.end == FINISHED:
                        continue
                    elsewhere = sign.host != self.own.host
                    if self._has_gone(sign) or (elsewhere and time.monotonic() - self.heard[r] > PATIENCE - 1):
                        time.sleep(0.5)
                        self._read()  # who started it may know more by now
                        return self._ended() or f"{describe(r, sign)} {GONE}"
                time.sleep(0.1)
        except RuntimeError:
            return "the process that the ranks meet at is gone"
        return None

    def _has_gone(self, sign: Sign) -> bool:
        """Whether a rank is known to be no longer there, as one on this machine can be."""
        if sign.host != self.own.host:
            return False
        try:
            os.kill(sign.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # it is there, and another user's
            return False
        return False

    def _end(self, reason: str) -> NoReturn:
        """Says once per machine why the run ends and how it goes on, and leaves without waiting for anybody."""
        with self.telling:
            self.own.end, first = reason, True
            with contextlib.suppress(RuntimeError):
                self._publish()
                first = self.store.add(told_key(self.own.host), 1) == 1
            if first:
                print(f"gankern {self.command}: {reason}{self.advice()}", file=self.stderr, flush=True)
            for child in multiprocessing.active_children():  # workers that read images
                child.kill()
            os._exit(1)


_current: Watch | None = None


def begin(new: Watch | None) -> None:
    """Makes a watch this process's own, and starts it; None for no watch any more."""
    global _current
    _current = new
    if new is not None:
        new.start()


def advance() -> None:
    """Says that the main thread did its part of something that all ranks do together."""
    if _current is not None:
        _current.own.steps += 1


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Inside, the others wait for this rank for as long as it takes."""
    if _current is None:
        yield
        return
    _current.own.busy += 1
    try:
        yield
    finally:
        _current.own.busy -= 1


def advise(advice: Callable[[], str]) -> None:
    """Sets what is said after the reason when a run of several ranks ends with an error: how it goes on."""
    if _current is not None:
        _current.advice = advice


def describe(rank: int, sign: Sign | None) -> str:
    return f"rank {rank}" if sign is None else f"rank {rank} (process {sign.pid} on {sign.host})"


def sign_key(rank: int) -> str:
    return f"gankern/sign/{rank}"


def told_key(host: str) -> str:
    return f"gankern/told/{host}"
