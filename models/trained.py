"""A trained generator as the tools use it: from seeds to codes to images, alike for every family."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import convert
from .config import FAMILIES
from .convert import Checkpoint
from .training.latents import truncate
from .training.standing import with_standing_statistics
from .training.state import Discriminator, Generator

NOISE_MODES = ("const", "random", "none")
PIXELS_AT_ONCE = 1 << 18  # of the images that are drawn together: 64 of 64x64, one from 512x512 on


def load_generator(path: Path, device: torch.device) -> tuple[Checkpoint, Generator]:
    """A checkpoint, and its averaged generator or, where there is none, its plain one.

    Raises:
        ValueError: There is no generator in it, or `convert.load` refuses it.
    """
    checkpoint = convert.load(path)
    G = checkpoint.G_ema or checkpoint.G
    if G is None:
        raise ValueError(f"{path} has no generator, only {', '.join(checkpoint.networks())}")
    if checkpoint.model.precision == "fp16" and device.type == "cpu":
        G = in_fp32(checkpoint, G)
    G = G.to(device).eval()
    if checkpoint.training is not None:
        G = with_standing_statistics(G, checkpoint.training.standing_batches, checkpoint.training.batch)
    return checkpoint, G


def in_fp32(checkpoint: Checkpoint, net: Generator | Discriminator) -> Generator | Discriminator:
    """The same network where no layer computes in half precision."""
    options: Any = checkpoint.model
    changes: dict[str, Any] = {"precision": "fp32"}
    if hasattr(options, "num_fp16_res"):
        changes["num_fp16_res"] = 0
    slow = FAMILIES[checkpoint.family].build(replace(options, **changes))[net is checkpoint.D]
    slow.load_state_dict(net.state_dict())
    if hasattr(net, "grow"):
        slow.grow(net.resolution, net.fading)  # type: ignore[operator]
    return slow.to(next(net.parameters()).device).train(net.training)


@dataclass(frozen=True)
class Codes:
    """What images are drawn from.

    Attributes:
        layers: [N, num_layers, dim]: a w for every layer; without a mapping network z, in the parts that the blocks of
            BigGAN get, or in one.
        c: Labels [N, c_dim].
    """

    layers: Tensor
    c: Tensor

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: Any) -> Codes:
        return Codes(self.layers[index], self.c[index])


def mix(a: Codes, b: Codes, layers: list[int]) -> Codes:
    """Every code of `a` with every code of `b`, which gives some layers; the labels are those of `a`.

    Args:
        a, b: N and M codes.
        layers: Those that `b` gives.

    Returns:
        N * M codes: the first of `a` with each of `b`, and so on.

    Source: Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019, section 3.1
        and figure 3.
    """
    mixed = a.layers.repeat_interleave(len(b), 0)  # [N * M, num_layers, dim]
    mixed[:, layers] = b.layers.repeat(len(a), 1, 1)[:, layers]
    return Codes(mixed, a.c.repeat_interleave(len(b), 0))


class Trained:
    """A generator of any family, in evaluation mode.

    Args:
        G: The generator.
        family: One of `gankern.models.config.FAMILIES`.

    Attributes:
        has_styles: Whether there is a mapping network, z to w.
        has_noise: Whether its layers add noise.
        num_layers: How many parts of a code steer different layers, the coarsest first.
    """

    def __init__(self, G: Generator, family: str) -> None:
        self.G, self.family = G, family
        self.has_styles = hasattr(G, "mapping")
        self.has_noise = any(name.endswith("noise_const") for name, _ in G.named_buffers())
        chunk = getattr(G, "chunk", G.z_dim)  # BigGAN's part of z for a block
        self.num_layers: int = G.num_ws if self.has_styles else G.z_dim // chunk
        self.device = next(G.parameters()).device

    @staticmethod
    def load(path: Path, device: torch.device) -> Trained:
        """The generator of a checkpoint."""
        checkpoint, G = load_generator(path, device)
        return Trained(G, checkpoint.family)

    def latents(self, seeds: Sequence[int]) -> Tensor:
        """z [N, z_dim] of each seed on its own, the same numbers as the published tools draw for it."""
        z = np.stack([np.random.RandomState(seed).randn(self.G.z_dim) for seed in seeds])
        return torch.from_numpy(z).float().to(self.device)

    def labels(self, classes: Sequence[int] | None, n: int) -> Tensor:
        """c [N, c_dim] of n images that have the classes in turn; None for all classes.

        Raises:
            ValueError: There is no such class.
        """
        if classes is not None and self.G.c_dim == 0:
            raise ValueError("--class does not apply: the model was trained without classes")
        for k in classes or ():
            if not 0 <= k < self.G.c_dim:
                raise ValueError(f"--class must be below the model's number of classes = {self.G.c_dim}, got {k}")
        chosen = list(range(self.G.c_dim)) if classes is None else classes
        c = torch.zeros(n, self.G.c_dim)
        if chosen:
            c[torch.arange(n), torch.tensor(chosen).repeat(math.ceil(n / len(chosen)))[:n]] = 1
        return c.to(self.device)

    @torch.no_grad()
    def codes(self, z: Tensor, c: Tensor, psi: float = 1.0, cutoff: int | None = None) -> Codes:
        """The codes of latents z [N, z_dim] and labels c [N, c_dim].

        Args:
            z, c: Latents and labels.
            psi: Truncation: 1 for none. Where there are styles they move towards their mean, which they reach at 0;
                elsewhere z is truncated at 2 psi, with the standard deviation psi.
            cutoff: How many of the styles are truncated, the first; None for all.

        Raises:
            ValueError: psi or cutoff does not suit the generator.

        Source: Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019,
            appendix B; Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis", 2019,
            section 3.1, with standard deviation and threshold of the generators published with it.
        """
        if not math.isfinite(psi):
            raise ValueError(f"--trunc must be a finite number, got {psi}")
        if cutoff is not None and not (self.has_styles and 0 <= cutoff <= self.num_layers):
            expected = f"from 0 to {self.num_layers}" if self.has_styles else f"left out: {self.family} has no styles"
            raise ValueError(f"--trunc-cutoff must be {expected}, got {cutoff}")
        if self.has_styles:
            return Codes(self.G.mapping(z, c, truncation_psi=psi, truncation_cutoff=cutoff), c)
        if psi != 1:
            if self.family == "progan":
                raise ValueError(f"--trunc must be 1 for ProGAN, which gives every latent the same length, got {psi:g}")
            if psi <= 0:
                raise ValueError(f"--trunc must be positive for {self.family}, got {psi:g}")
            z = psi * truncate(z)
        return Codes(z.unflatten(1, (self.num_layers, -1)), c)

    def noise_mode(self, given: str | None) -> str:
        """The noise mode asked for, by default const.

        Raises:
            ValueError: One is asked for and the generator adds no noise.
        """
        if given is not None and not self.has_noise:
            raise ValueError(f"--noise-mode does not apply: this {self.family} adds no noise to its layers")
        return given or "const"

    def draw(self, codes: Codes, noise_mode: str = "const") -> Tensor:
        """Images [N, C, H, W], about -1 to 1, of codes; differentiable."""
        if self.has_styles:
            return self.G.synthesis(codes.layers, noise_mode=noise_mode)
        return self.G(codes.layers.flatten(1), codes.c)

    @torch.no_grad()
    def draw_in_parts(
        self, codes: Codes, noise_mode: str = "const", report: Callable[[int, int], None] = lambda done, total: None
    ) -> Iterator[Tensor]:
        """The images of many codes, some at a time, on the CPU.

        Args:
            codes, noise_mode: As for `draw`.
            report: Told how many are done, and of how many.
        """
        n = max(PIXELS_AT_ONCE // getattr(self.G, "resolution", self.G.img_resolution) ** 2, 1)
        for first in range(0, len(codes), n):
            yield self.draw(codes[first : first + n], noise_mode).cpu()
            report(min(first + n, len(codes)), len(codes))
