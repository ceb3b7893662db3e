"""The images of one evaluation, real and generated, and what the metrics keep of them as they pass by.

Latents and labels of image number i, and the places of its patches, depend on the seed and i alone, and ranks take
whole batches in turn: one process or many measure the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..ranks import Rows, from_first_rank, rank, shares, world_size
from ..training.data import epoch_order
from ..training.images import ImageData, to_uint8
from ..training.state import Generator
from . import fid, ms_ssim, ppl, swd
from .extractors import Extractor
from .feature_cache import cache_path, load_cached, save_cached

Report = Callable[[str, int, int], None]  # what is being done, how much of it is done, how much there is


@dataclass(frozen=True)
class Options:
    """What an evaluation may be told; files are those of `load_extractor` and `load_lpips`."""

    num_fake: int | None = None  # generated images; None: each metric's published number
    num_real: int | None = None  # real images of the metrics that take all of them; None: all
    batch: int = 64
    seed: int = 0
    truncation_psi: float = 1.0
    inception: Path | None = None
    vgg: Path | None = None
    lpips: Path | None = None
    extractors: dict[str, Extractor] = field(default_factory=dict)  # by output, instead of files
    distance: ppl.Distance | None = None  # instead of a file for LPIPS
    cache: Path | None = None  # folder for what is measured of real images; None: keep nothing
    report: Report = lambda what, done, total: None

    def __post_init__(self) -> None:
        if self.batch < 2 or self.batch % 2:
            raise ValueError(f"evaluate: batch must be even, got {self.batch}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"evaluate: seed must be in [0, 2^31), got {self.seed}")
        for name in ("num_fake", "num_real"):
            value = getattr(self, name)
            if value is not None and value < 2:
                raise ValueError(f"evaluate: {name} must be at least 2, got {value}")


class Collection(Protocol):
    """What one or several metrics keep of the images that pass by."""

    num_real: int  # images it wants
    num_fake: int

    def real(self, first: int, images: Tensor) -> None:
        """Takes in real images uint8 [n, C, H, W]: the number `first` and those after it."""

    def fake(self, first: int, images: Tensor) -> None:
        """Takes in generated images."""


class Run:
    """One evaluation: where its images come from, and who wants them."""

    def __init__(self, G: Generator, data: ImageData, options: Options, device: torch.device):
        self.G, self.data, self.options, self.device = G, data, options, device
        self.collections: dict[object, Any] = {}
        if options.truncation_psi != 1 and not hasattr(G, "mapping"):
            raise ValueError(
                f"evaluate: truncation_psi must be 1 for a generator without a mapping, got {options.truncation_psi}"
            )
        c_dim = getattr(G, "c_dim", data.c_dim)
        if c_dim != data.c_dim:
            raise ValueError(f"evaluate: the data must have labels of {c_dim} numbers like the model, got {data.c_dim}")
        self.size = self._generate(0, 1).shape[1:]  # (C, H, W)
        of_data = data.read(np.zeros(1, np.int64)).shape[1:]
        self.shrink = of_data[1] // self.size[1]
        if of_data != (self.size[0], *(self.shrink * n for n in self.size[1:])):
            raise ValueError(
                f"evaluate: the generator's images must be like the data's, [C, H, W] = {list(of_data)} or smaller by "
                f"a whole number, got {list(self.size)}"
            )

    def num_fake(self, published: int) -> int:
        return self.options.num_fake or published

    def num_real(self) -> int:
        return min(self.options.num_real or len(self.data), len(self.data))

    def want(self, key: object, make: Callable[[], Collection]) -> Any:
        """The collection under a key, made when first wanted."""
        if key not in self.collections:
            self.collections[key] = make()
        return self.collections[key]

    def features(self, output: str, kind: type[Rows] | type[fid.Moments], with_real: bool = True) -> FeatureCollection:
        """The collection of an extractor's output, see `FeatureCollection`; its extractor serves other kinds too."""
        extractor = self.options.extractors[output]
        return self.want((output, kind), lambda: FeatureCollection(self, extractor, kind, with_real))

    def collect(self) -> None:
        """Shows all images to the collections."""
        wanted = self.collections.values()
        self._show(self.reals, [(c.num_real, c.real) for c in wanted], "real images")
        self._show(self.fakes, [(c.num_fake, c.fake) for c in wanted], "generated images")

    def _show(
        self,
        source: Callable[[int], Iterator[tuple[int, Tensor]]],
        takers: list[tuple[int, Callable[[int, Tensor], None]]],
        what: str,
    ) -> None:
        total = max((num for num, _ in takers), default=0)
        for first, images in source(total):
            for num, take in takers:
                if first < num:
                    take(first, images if first + len(images) <= num else images[: num - first])
            self.options.report(what, min(first + world_size() * self.options.batch, total), total)

    def reals(self, num: int) -> Iterator[tuple[int, Tensor]]:
        """This rank's batches of real images, shuffled, from the start again when they are through: uint8."""
        n, seed = len(self.data), self.options.seed
        epochs = range(-(-num // n))
        order = np.concatenate([epoch_order(n, seed, epoch) for epoch in epochs]) if num else np.empty(0, np.int64)
        for first, last in shares(num, self.options.batch):
            images = self.data.read(order[first:last]).to(self.device)  # [n, C, H, W]
            if self.shrink > 1:
                images = F.avg_pool2d(images.float(), self.shrink).round().to(torch.uint8)
            yield first, images

    def fakes(self, num: int) -> Iterator[tuple[int, Tensor]]:
        """This rank's batches of generated images: uint8."""
        for first, last in shares(num, self.options.batch):
            yield first, self._generate(first, last)

    def _generate(self, first: int, last: int) -> Tensor:
        """Generated images number `first` to last - 1: uint8 [n, C, H, W]."""
        seed = self.options.seed
        z = np.stack([np.random.RandomState([seed, i]).standard_normal(self.G.z_dim) for i in range(first, last)])
        c = self.labels(first, last).to(self.device)
        psi = self.options.truncation_psi
        kwargs = {} if psi == 1 else {"truncation_psi": psi}
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed * 1_000_003 + first)  # of the generator's noise
            return to_uint8(self.G(torch.from_numpy(z).float().to(self.device), c, **kwargs))

    def labels(self, first: int, last: int) -> Tensor:
        """Labels of generated images, drawn from the data's: float32 [n, c_dim]."""
        seed, n = self.options.seed, len(self.data)
        return self.data.encode_labels(
            np.array([np.random.RandomState([seed, i, 1]).randint(n) for i in range(first, last)])
        )


class PatchCollection:
    """For SWD: patches of as many real images as generated ones."""

    def __init__(self, run: Run):
        self.num_real = self.num_fake = run.num_fake(swd.NUM_IMAGES)
        channels, *size = run.size
        seed = run.options.seed
        self.of_reals = swd.Patches(self.num_real, (size[0], size[1]), channels, 2 * seed)
        self.of_fakes = swd.Patches(self.num_fake, (size[0], size[1]), channels, 2 * seed + 1)
        self.real, self.fake = self.of_reals.add, self.of_fakes.add


class PairCollection:
    """For MS-SSIM: the similarity of pairs of generated images."""

    num_real = 0

    def __init__(self, run: Run):
        self.num_fake = run.num_fake(ms_ssim.NUM_IMAGES) // 2 * 2
        self.similarities = Rows()

    def real(self, first: int, images: Tensor) -> None:
        """Real images are not looked at."""

    def fake(self, first: int, images: Tensor) -> None:
        self.similarities.add(first // 2, ms_ssim.pairwise_ms_ssim(images))


class FeatureCollection:
    """Features of real and of generated images, or their moments only.

    Args:
        run: The evaluation.
        extractor: Of the features.
        kind: `Rows` to keep the features, `Moments` for their mean and covariance.
        with_real: Whether real images are looked at.
    """

    def __init__(self, run: Run, extractor: Extractor, kind: type[Rows] | type[fid.Moments], with_real: bool = True):
        self.extractor = extractor
        self.kind = kind
        self.of_reals, self.of_fakes = kind(), kind()
        self.num_fake = run.num_fake(fid.NUM_IMAGES)
        self.path = _cache_path(run, extractor, kind) if with_real else None
        self.cached = from_first_rank(load_cached(self.path) if self.path and rank() == 0 else None)
        self.num_real = run.num_real() if with_real and self.cached is None else 0

    def real(self, first: int, images: Tensor) -> None:
        _add(self.of_reals, first, self.extractor(images))

    def fake(self, first: int, images: Tensor) -> None:
        _add(self.of_fakes, first, self.extractor(images))

    @cached_property
    def all_reals(self) -> Any:
        """`Moments` or features [N, F] of the real images of all ranks."""
        if self.cached is None:
            found = self.of_reals.gather()
            self.cached = found.state_dict() if isinstance(found, fid.Moments) else {"rows": found}
            if self.path and rank() == 0:
                save_cached(self.path, self.cached)
        return fid.Moments.from_state_dict(self.cached) if self.kind is fid.Moments else self.cached["rows"]

    @cached_property
    def all_fakes(self) -> Any:
        """`Moments` or features [N, F] of the generated images of all ranks."""
        return self.of_fakes.gather()


def _add(to: Rows | fid.Moments, first: int, features: Tensor) -> None:
    if isinstance(to, fid.Moments):
        to.add(features)
    else:
        to.add(first, features)


def _cache_path(run: Run, extractor: Extractor, kind: type) -> Path | None:
    if run.options.cache is None or extractor.fingerprint is None:
        return None
    facts = {"data": run.data.fingerprint(), "num": run.num_real(), "seed": run.options.seed, "shrink": run.shrink}
    return cache_path(run.options.cache, kind=kind.__name__, extractor=extractor.fingerprint, **facts)
