"""Where a run's random numbers come from when several ranks work on it.

What concerns the whole batch, latents and labels, is drawn for all of it on every rank, from generators that are the
same on each; a rank then takes its part. What concerns single images, such as noise inside the networks, comes from
torch's default generators, which differ by rank. One process draws everything from those, in one sequence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..ranks import gather_objects, rank, world_size
from .images import ImageData


class RandomStates:
    """The random numbers of a run.

    Args:
        seed: Of all of them.
        device: Where the networks are.
    """

    def __init__(self, seed: int, device: torch.device):
        self.seed = seed
        self.device = device
        self.shared: dict[str, torch.Generator] = {}  # by type of device; empty with one process
        self.begin([seed])

    def begin(self, entropy: list[int]) -> None:
        """Starts the ranks' numbers from some entropy; one process goes on as it is."""
        if world_size() == 1:
            return
        for name, device in {"cpu": torch.device("cpu"), self.device.type: self.device}.items():
            seed = entropy[0] if len(entropy) == 1 else _seed(entropy)
            self.shared[name] = torch.Generator(device).manual_seed(seed)
        torch.manual_seed(_seed([*entropy, rank() + 1]))

    def latents(self, batch: int, z_dim: int) -> Tensor:
        """This rank's part of the latents of a batch: float32 [batch / ranks, z_dim], on the device."""
        z = torch.randn(batch, z_dim, device=self.device, generator=self.shared.get(self.device.type))
        return own_part(z)

    def labels(self, data: ImageData, batch: int) -> Tensor:
        """This rank's part of the labels of a batch, those of random images: float32 [batch / ranks, c_dim]."""
        indices = torch.randint(len(data), (batch,), generator=self.shared.get("cpu"))
        return data.encode_labels(own_part(indices).numpy())

    def state_dict(self) -> dict[str, Any]:
        """The states of all ranks, the first one's where one process has its own; every rank must call it."""
        own = {"cpu": torch.get_rng_state(), "cuda": None}
        if self.device.type == "cuda":
            own["cuda"] = torch.cuda.get_rng_state(self.device)
        ranks = gather_objects(own)
        state = {f"rng_{name}": value for name, value in ranks[0].items()}
        if len(ranks) > 1:
            state["rng_ranks"] = ranks
            state["rng_shared"] = {name: generator.get_state() for name, generator in self.shared.items()}
        return state

    def load_state_dict(self, state: dict[str, Any], cur_nimg: int) -> None:
        """Restores what `state_dict` returned; for another number of ranks the numbers start anew."""
        ranks = state.get("rng_ranks") or [{"cpu": state["rng_cpu"], "cuda": state["rng_cuda"]}]
        if len(ranks) != world_size():
            torch.manual_seed(_seed([self.seed, cur_nimg]))
            self.begin([self.seed, cur_nimg])
            return
        own = ranks[rank()]
        torch.set_rng_state(own["cpu"])
        if self.device.type == "cuda" and own["cuda"] is not None:
            torch.cuda.set_rng_state(own["cuda"], self.device)
        for name, saved in state.get("rng_shared", {}).items():
            self.shared[name].set_state(saved)


def own_part(of_batch: Any) -> Any:
    """What this rank takes of a batch's rows: every one of `world_size` rows, in turn.

    Groups of a minibatch standard deviation, whose members lie evenly spread over the batch, stay together then, as do
    the parts of a batch that goes through the networks in parts.
    """
    return of_batch[rank() :: world_size()]


def saved_ranks(state: dict[str, Any]) -> int:
    """The number of ranks that a snapshot's state comes from."""
    return len(state.get("rng_ranks", [None]))


def _seed(entropy: list[int]) -> int:
    """One number from several, as good as independent of that of any others."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))
