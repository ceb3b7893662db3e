"""What `gankern train` says of a run before it begins."""

from __future__ import annotations

import json

import torch
from torch import nn

from .config import Config
from .ranks import world_size
from .training.images import ImageData
from .training.options import TrainingOptions
from .training.schedule import periods


def describe(config: Config, data: ImageData, G: nn.Module, D: nn.Module, device: torch.device) -> None:
    """Prints the data, the sizes of the networks, where they are, and every option."""
    where = f"cpu, {torch.get_num_threads()} threads" if device.type == "cpu" else torch.cuda.get_device_name(device)
    where += f" for each of {world_size()} processes" if world_size() > 1 else ""
    print(f"data     {config.data.source}: {data.describe()}")
    for name, net in (("G", G), ("D", D)):
        print(f"{name}        {sum(p.numel() for p in net.parameters()) / 1e6:.2f} M parameters")
    print(f"device   {where}, {config.model.precision}")
    for part in ("model", "training"):
        print(f"{part:8} {json.dumps(config.to_json()[part])}")
    for line in _growth_table(config.training):
        print(line)


def _growth_table(training: TrainingOptions) -> list[str]:
    """The schedule of a growing run, a line for each resolution that fades in or trains."""
    if training.growth is None:
        return []
    lines = ["growth          kimg  resolution          batch  lr"]
    for period in periods(training.growth):
        start, end = period.start / 1000, (period.end or training.kimg * 1000) / 1000
        if start >= training.kimg:
            last = training.growth.last_resolution
            return [*lines, f"           the run is too short for {last}x{last}"]
        size = f"{period.resolution}x{period.resolution}{' fades in' if period.fading else ''}"
        batch = training.growth.batch.get(period.resolution, training.batch)
        lr = training.growth.lr.get(period.resolution, training.lr)
        lines.append(f"{start:10g} - {min(end, training.kimg):<7g} {size:19} {batch:5}  {lr:g}")
    return lines
