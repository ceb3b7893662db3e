"""A run's configuration: its family of networks, its data, and what a preset makes of both."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from .presets import biggan, progan, sagan, stylegan, stylegan2
from .training.options import TrainingOptions

if TYPE_CHECKING:
    from torch import nn

PRECISIONS = ("fp32", "bf16", "fp16")


class ModelOptions(Protocol):
    """What the options of every family's networks have; they are a frozen dataclass of JSON types."""

    @property
    def img_resolution(self) -> int: ...
    @property
    def img_channels(self) -> int: ...
    @property
    def base_size(self) -> tuple[int, int]: ...
    @property
    def c_dim(self) -> int: ...
    @property
    def z_dim(self) -> int: ...
    @property
    def precision(self) -> str: ...


class Preset(Protocol):
    """What every family's rows have beside their own columns."""

    @property
    def precision(self) -> str: ...
    @property
    def cond(self) -> bool: ...


class Family(NamedTuple):
    """Networks that are built from the same options."""

    options: Callable[..., ModelOptions]  # the frozen dataclass
    presets: Mapping[str, Preset]  # its rows
    resolve: Callable[..., tuple[ModelOptions, TrainingOptions]]  # of a row and the arguments of the function below
    build: Callable[[Any], tuple[nn.Module, nn.Module]]  # options to G and D; imports the networks when called


FAMILIES = {
    "stylegan2": Family(stylegan2.StyleGAN2Options, stylegan2.PRESETS, stylegan2.resolve, stylegan2.build),
    "progan": Family(progan.ProGANOptions, progan.PRESETS, progan.resolve, progan.build),
    "stylegan": Family(stylegan.StyleGANOptions, stylegan.PRESETS, stylegan.resolve, stylegan.build),
    "biggan": Family(biggan.BigGANOptions, biggan.PRESETS, biggan.resolve, biggan.build),
    "sagan": Family(sagan.SAGANOptions, sagan.PRESETS, sagan.resolve, sagan.build),
}


@dataclass(frozen=True)
class DataOptions:
    """Which data a run learns, and what it was found to be."""

    source: str
    name: str
    images: int
    cond: bool


@dataclass(frozen=True)
class Config:
    """A run: what a snapshot keeps as JSON and a resumed run must agree with."""

    preset: str
    family: str
    data: DataOptions
    model: ModelOptions
    training: TrainingOptions

    def to_json(self) -> dict[str, Any]:
        """The configuration as nested dictionaries of JSON types."""
        return json.loads(json.dumps(asdict(self)))

    @staticmethod
    def from_json(value: dict[str, Any]) -> Config:
        """The configuration that `to_json` gave, now or before there were families."""
        family = value.get("family", "stylegan2")
        model = FAMILIES[family].options(**value["model"])
        training = TrainingOptions.from_json(value["training"])
        return Config(value["preset"], family, DataOptions(**value["data"]), model, training)


def preset_names() -> list[str]:
    """The presets of all families."""
    return [name for family in FAMILIES.values() for name in family.presets]


def find_preset(name: str) -> tuple[str, Preset]:
    """The family and the row of a preset.

    Raises:
        ValueError: There is none of that name.
    """
    for family, entry in FAMILIES.items():
        if name in entry.presets:
            return family, entry.presets[name]
    raise ValueError(f"--cfg must be one of {', '.join(preset_names())}, got {name}")


def resolve(
    name: str,
    resolution: int,
    channels: int,
    c_dim: int,
    gpus: int = 1,
    precision: str | None = None,
    base_size: tuple[int, int] = (4, 4),
) -> tuple[ModelOptions, TrainingOptions]:
    """The networks and training of a preset for data of a given size.

    Args:
        name: One of `preset_names`.
        resolution: Of the images, nominal: they have base_size * resolution / 4 pixels.
        channels: Channels of the images.
        c_dim: Width of the labels, 0 for none.
        gpus: Devices that share the batch, for the values that follow from it.
        precision: `fp32`, `bf16` or `fp16` for the highest resolutions; None takes the preset's.
        base_size: (height, width) at nominal resolution 4; (4, 4) for square images of a power of two.

    Raises:
        ValueError: No such preset or precision.
    """
    family, row = find_preset(name)
    precision = precision or row.precision
    if precision not in PRECISIONS:
        raise ValueError(f"--precision must be one of {', '.join(PRECISIONS)}, got {precision}")
    return FAMILIES[family].resolve(row, resolution, channels, c_dim, gpus, precision, base_size)


def build_networks(config: Config) -> tuple[nn.Module, nn.Module]:
    """The generator and the discriminator of a configuration, freshly initialised on the CPU."""
    return FAMILIES[config.family].build(config.model)
