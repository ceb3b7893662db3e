"""Which convolutions are faster by Winograd's algorithm: a table of measurements, one per class of shapes.

The library brings one; `python -m gankern.doctor --tune` measures this machine's own, which then takes its place.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import torch

WHAT = ("convolution", "weight gradient", "strided", "transposed", "strided weight gradient")
CHANNELS = (16, 32, 64, 128, 256, 512)  # the smaller of input and output channels, rounded down to one of these
TILES = (4, 16, 64, 256, 1024, 4096)  # tiles of 4x4 pixels at the lower resolution, in all images, likewise
LAYOUTS = ("NCHW", "channels_last")
DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}

OWN = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gankern" / "convolution_table.json"
BROUGHT = Path(__file__).with_suffix(".json")


def speedup(what: str, dtype: torch.dtype, layout: str, channels: int, tiles: int) -> float:
    """The time of torch's routine over that of Winograd's algorithm; 0 where that does not apply.

    Args:
        what: One of `WHAT`.
        dtype: In which torch's routine would compute.
        layout: One of `LAYOUTS`, of the images.
        channels: The smaller of input and output channels.
        tiles: Tiles of 4x4 pixels at the lower resolution, in all images.
    """
    if channels < CHANNELS[0] or tiles < TILES[0] or dtype not in DTYPES:
        return 0.0
    own = max(c for c in CHANNELS if c <= channels), max(t for t in TILES if t <= tiles)
    return _speedups.get(key(what, DTYPES[dtype], layout, *own), 0.0)


def key(what: str, dtype: str, layout: str, channels: int, tiles: int) -> str:
    """The name of a class of shapes in the table."""
    return f"{what}, {dtype}, {layout}, {channels} channels, {tiles} tiles"


def save(speedups: dict[str, float], about: dict[str, Any]) -> Path:
    """Writes this machine's table, and goes by it from now on.

    Args:
        speedups: By `key`, the time of torch's routine over that of Winograd's algorithm.
        about: Processor, instruction set, threads, versions.
    """
    OWN.parent.mkdir(parents=True, exist_ok=True)
    OWN.write_text(json.dumps({**about, "speedups": speedups}, indent=1) + "\n")
    _speedups.clear()
    _speedups.update(speedups)
    return OWN


def _load() -> dict[str, float]:
    """This machine's table if it is there and whole, else the one that the library brings."""
    if OWN.is_file():
        try:
            return _read(OWN)
        except (OSError, ValueError) as error:
            warnings.warn(
                f"gankern: {OWN} is not used ({error}); python -m gankern.doctor --tune mends it", stacklevel=2
            )
    return _read(BROUGHT)


def _read(path: Path) -> dict[str, float]:
    found = json.loads(path.read_text())
    speedups = found.get("speedups") if isinstance(found, dict) else None
    if not isinstance(speedups, dict) or not all(isinstance(value, int | float) for value in speedups.values()):
        raise ValueError("it holds no table of speedups")
    return speedups


_speedups = _load()
