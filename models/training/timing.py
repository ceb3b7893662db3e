"""How long the parts of an iteration take, measured without waiting for the device."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class PhaseTimer:
    """Collects milliseconds under names; nothing waits for the device until `read`.

    Args:
        device: Where the phases run. On a GPU two events around each are read at the end of the tick; on a CPU it is
            the time that Python saw pass, for there an op is over when its call returns.
    """

    def __init__(self, device: torch.device):
        self.events = device.type == "cuda"
        self.waiting: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self.milliseconds: dict[str, list[float]] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Times what runs on the device inside it."""
        if not self.events:
            with self.host(name):
                yield
            return
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        yield
        end.record()
        self.waiting.append((name, start, end))

    @contextmanager
    def host(self, name: str) -> Iterator[None]:
        """Times what this process does inside it, whatever the device does meanwhile."""
        start = time.perf_counter()
        yield
        self.milliseconds.setdefault(name, []).append(1000 * (time.perf_counter() - start))

    def read(self) -> dict[str, list[float]]:
        """Milliseconds of each time that something ran, by its name, since the last call; waits for the device."""
        for name, start, end in self.waiting:
            end.synchronize()
            self.milliseconds.setdefault(name, []).append(start.elapsed_time(end))
        read, self.milliseconds, self.waiting = self.milliseconds, {}, []
        return read
