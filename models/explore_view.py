"""What the page of `gankern explore` asks for, checked, and the image of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import torch
from torch import Tensor

from .trained import NOISE_MODES, Codes, Trained, mix
from .training.pictures import tile
from .training.png import encode_png

SEEDS = 1 << 32


class Number(NamedTuple):
    """A parameter that is a number: its type, default, and what it may be."""

    kind: type[int] | type[float]
    default: float
    least: float
    most: float


class Studio:
    """Draws what a query asks for.

    Args:
        trained: The generator.
        name: Of the model, for the page.
    """

    def __init__(self, trained: Trained, name: str) -> None:
        self.trained, self.name = trained, name
        layers, c_dim = trained.num_layers, trained.G.c_dim
        psi = {"progan": (1.0, 1.0)}.get(trained.family, (-2.0, 2.0) if trained.has_styles else (0.05, 2.0))
        self.numbers = {
            "seed": Number(int, 0, 0, SEEDS - 1),
            "class": Number(int, 0, 0, max(c_dim - 1, 0)),
            "psi": Number(float, 1, *psi),
            "cutoff": Number(int, layers, 0, layers),
            "mix_seed": Number(int, 1, 0, SEEDS - 1),
            "mix_first": Number(int, 0, 0, layers),
            "mix_count": Number(int, 0, 0, layers),
            "strength": Number(float, 1, 0, 10),
            "x": Number(float, 0, -100, 100),
            "y": Number(float, 0, -100, 100),
            "grid": Number(int, 1, 1, 4),
        }
        with torch.no_grad():
            image = trained.draw(self._codes(self._parsed("")))
        self.size = image.shape[2:]  # height, width

    def about(self) -> dict[str, Any]:
        """What the page needs to know to show its controls."""
        trained = self.trained
        height, width = self.size
        return {
            "name": self.name,
            "family": trained.family,
            "width": width,
            "height": height,
            "layers": trained.num_layers,
            "classes": trained.G.c_dim,
            "styles": trained.has_styles,
            "noise": trained.has_noise,
            "truncation": self.numbers["psi"].least < self.numbers["psi"].most,
        }

    def png(self, query: str) -> bytes:
        """The image of a query such as seed=5&psi=0.7, as PNG; what it does not say has its default.

        Args:
            query: seed, class, psi, cutoff; mix_seed, mix_first, mix_count: a seed that gives some layers; noise, one
                of `NOISE_MODES`, and strength, a factor; x and y: how far z is turned towards two directions, in
                radians; grid: that many rows and columns, of the next seeds.

        Raises:
            ValueError: A parameter is unknown, given twice, or not one of its values; it is named.
        """
        given = self._parsed(query)
        with self._noise_scaled(given["strength"]):
            parts = list(self.trained.draw_in_parts(self._codes(given), given["noise"]))
        return encode_png(tile(torch.cat(parts), given["grid"]))

    def _parsed(self, query: str) -> dict[str, Any]:
        given: dict[str, Any] = {name: number.kind(number.default) for name, number in self.numbers.items()}
        given["noise"] = NOISE_MODES[0]
        seen = set()
        for name, text in parse_qsl(query, keep_blank_values=True, max_num_fields=len(given)):
            if name not in given:
                raise ValueError(f"expected {', '.join(given)}, got {name[:40]!r}")
            if name in seen:
                raise ValueError(f"{name} is given twice")
            seen.add(name)
            given[name] = self._value(name, text)
        return given

    def _value(self, name: str, text: str) -> Any:
        if name == "noise":
            if text not in NOISE_MODES:
                raise ValueError(f"noise must be one of {', '.join(NOISE_MODES)}, got {text[:40]!r}")
            return text
        kind, _, least, most = self.numbers[name]
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            what = "a whole number" if kind is int else "a number"
            raise ValueError(f"{name} must be {what} from {kind(least)} to {kind(most)}, got {text[:40]!r}")
        return value

    def _codes(self, given: dict[str, Any]) -> Codes:
        seeds = [(given["seed"] + i) % SEEDS for i in range(given["grid"] ** 2)]
        cutoff = given["cutoff"] if self.trained.has_styles else None
        c = self.trained.labels([given["class"]] if self.trained.G.c_dim else None, len(seeds))
        z = turned(self.trained.latents(seeds), given["x"], given["y"])
        codes = self.trained.codes(z, c, given["psi"], cutoff)
        layers = list(range(self.trained.num_layers))[given["mix_first"] :][: given["mix_count"]]
        if not layers:
            return codes
        other = self.trained.codes(self.trained.latents([given["mix_seed"]]), c[:1], given["psi"], cutoff)
        return mix(codes, other, layers)

    @contextmanager
    @torch.no_grad()
    def _noise_scaled(self, factor: float) -> Iterator[None]:
        """The generator with a noise that is so many times as strong; afterwards it is what it was."""
        named = self.trained.G.named_parameters()
        strengths = [strength for name, strength in named if name.endswith("noise_strength") and factor != 1]
        before = [strength.clone() for strength in strengths]
        for strength in strengths:
            strength.mul_(factor)
        try:
            yield
        finally:
            for strength, old in zip(strengths, before, strict=True):
                strength.copy_(old)


def turned(z: Tensor, x: float, y: float) -> Tensor:
    """Latents z [N, z_dim] turned by hypot(x, y) radians towards a direction in a fixed plane; their length stays."""
    angle = math.hypot(x, y)
    if angle == 0:
        return z
    generator = torch.Generator().manual_seed(1)
    across, along = torch.randn(2, z.shape[1], generator=generator).to(z)
    towards = ((x * across + y * along) / angle).expand_as(z)  # [N, z_dim]
    towards = towards - (towards * z).sum(1, keepdim=True) / z.square().sum(1, keepdim=True) * z  # at right angles
    towards = towards * (z.norm(dim=1, keepdim=True) / towards.norm(dim=1, keepdim=True))
    return z * math.cos(angle) + towards * math.sin(angle)
