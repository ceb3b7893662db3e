"""Collects scalars on the device during a tick and reads them once at its end."""

import math
import statistics
from collections.abc import Sequence

import torch
from torch import Tensor

from ..ranks import mean_, world_size

Summary = dict[str, dict[str, float]]
FINITE = "Gradients/finite/"  # and a phase: in which share of its steps all gradients were finite


class Stats:
    """Values added under (phase, name); nothing waits for the device until `summary`."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], list[Tensor]] = {}

    def add(self, phase: str, name: str, value: Tensor) -> None:
        """Adds the mean of `value` (any shape) under `name`, which no other phase may use."""
        self.values.setdefault((phase, name), []).append(value.detach().float().mean())

    def read(self) -> dict[tuple[str, str], list[float]]:
        """Everything added since the last summary, averaged over the ranks, all of which must call it.

        Raises:
            FloatingPointError: A value is NaN or infinite; the message names the first phase it came from.
        """
        read = {key: values.tolist() for key, values in self._averaged().items()}
        first_bad = {key: _first_bad(values) for key, values in read.items()}
        phase, name = min(first_bad, key=lambda key: first_bad[key], default=("", ""))
        if first_bad and first_bad[phase, name] < 1:
            raise FloatingPointError(f"training: {name} of phase {phase} became NaN or infinite")
        return read

    def summary(self) -> Summary:
        """Reads and forgets everything: {name: {"num", "mean", "std"}} over the values added."""
        read = self.read()
        self.values = {}
        return {name: summarise(values) for (_, name), values in read.items()}

    def state_dict(self) -> dict[tuple[str, str], Tensor]:
        return {key: values.cpu() for key, values in self._averaged().items()}

    def _averaged(self) -> dict[tuple[str, str], Tensor]:
        """The values under each key, each its mean over the ranks; averaging them again changes no bit."""
        stacked = {key: torch.stack(values) for key, values in self.values.items()}
        if world_size() == 1 or not stacked:
            return stacked
        means = torch.cat(list(stacked.values())).double()
        mean_(means)
        parts = means.float().split([len(values) for values in stacked.values()])
        return dict(zip(stacked, parts, strict=True))

    def load_state_dict(self, state: dict[tuple[str, str], Tensor], device: torch.device) -> None:
        self.values = {key: list(values.to(device)) for key, values in state.items()}


def summarise(values: Sequence[float]) -> dict[str, float]:
    """How many values there are, their mean, and their standard deviation (that of a whole population)."""
    return {"num": len(values), "mean": statistics.fmean(values), "std": statistics.pstdev(values)}


def _first_bad(values: list[float]) -> float:
    """Where in the tick, in [0, 1), the first value that is not finite lies; 1 without one."""
    return next((k / len(values) for k, v in enumerate(values) if not math.isfinite(v)), 1.0)
