"""Measures a generator by several metrics in one pass over its images and one over the real ones.

Latents and labels of image number i, and the places of its patches, depend on the seed and i alone, and ranks take
whole batches in turn: one process or many measure the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..training.data import epoch_order
from ..training.images import ImageData, to_uint8
from ..training.state import Generator
from . import density_coverage, fid, inception_score, kid, ms_ssim, ppl, precision_recall, swd
from .extractors import Extractor, load_extractor, load_lpips
from .feature_cache import cache_path, load_cached, save_cached
from .ranks import Rows, from_first_rank, rank, shares, world_size

Report = Callable[[str, int, int], None]  # what is being done, how much of it is done, how much there is
Result = Callable[[], dict[str, float]]


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
    lpips: Path | ppl.Distance | None = None  # a file, or any distance
    extractors: dict[str, Extractor] = field(
        default_factory=dict
    )  # instead of a file: "inception", "probabilities", "vgg"
    cache: Path | None = None  # folder for what is measured of real images; None: keep nothing
    report: Report = lambda what, done, total: None

    def __post_init__(self) -> None:
        if self.batch < 2 or self.batch % 2:
            raise ValueError(f"evaluate: batch must be even, got {self.batch}")
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


@torch.no_grad()
def evaluate(G: Generator, data: ImageData, metrics: Sequence[str], options: Options | None = None) -> dict[str, float]:
    """Measures a generator against real images.

    Args:
        G: Generator in evaluation mode, `G(z, c)` with `z_dim`, on its device.
        data: Real images, of the generator's size or larger by a power of two; they are averaged down to it.
        metrics: Names of `METRICS`.
        options: See there.

    Returns:
        The values by name; a metric may have several.

    Raises:
        ValueError: A metric is unknown, or images do not suit it.
        FileNotFoundError: A metric needs a weights file that is not there.
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or not metrics:
        raise ValueError(f"evaluate: metrics must be of {', '.join(METRICS)}, got {', '.join(unknown) or 'none'}")
    run = Run(G, data, options or Options())
    results = [METRICS[name](run) for name in metrics]  # before any work, so that a missing file shows at once
    run.collect()
    return {name: value for result in results for name, value in result().items()}


class Run:
    """One evaluation: where its images come from, and who wants them."""

    def __init__(self, G: Generator, data: ImageData, options: Options):
        self.G, self.data, self.options = G, data, options
        self.device = next(G.parameters()).device
        self.collections: dict[object, Any] = {}
        self.extractors = dict(options.extractors)
        if options.truncation_psi != 1 and not hasattr(G, "mapping"):
            raise ValueError(
                f"evaluate: truncation_psi must be 1 for a generator without a mapping, got {options.truncation_psi}"
            )
        self.size = self._generate(0, 1).shape[1:]  # (C, H, W)
        factor = data.resolution // self.size[1]
        if self.size[0] != data.channels or factor * self.size[1] != data.resolution or factor & (factor - 1):
            got = f"{self.size[0]} channels of {self.size[1]}x{self.size[2]}"
            raise ValueError(
                f"evaluate: the generator's images must be like the data's, {data.channels} channels of "
                f"{data.resolution}x{data.resolution} (or 1/2, 1/4, ... of it), got {got}"
            )
        self.shrink = factor

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
        if output not in self.extractors:
            file = self.options.vgg if output == "vgg" else self.options.inception
            self.extractors[output] = load_extractor(file, output, self.device)
        extractor = self.extractors[output]
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
        # a GPU keeps them where the projections are computed
        make = lambda s: swd.Patches(self.num_fake, (size[0], size[1]), channels, s, run.device)  # noqa: E731
        self.of_reals, self.of_fakes = make(2 * seed), make(2 * seed + 1)
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


def _swd(run: Run) -> Result:
    patches = run.want("patches", lambda: PatchCollection(run))
    return lambda: swd.swd(patches.of_reals, patches.of_fakes, run.options.seed, run.options.report)


def _ms_ssim(run: Run) -> Result:
    pairs = run.want("pairs", lambda: PairCollection(run))
    return lambda: {"ms_ssim": pairs.similarities.gather().mean().item()}


def _fid(run: Run) -> Result:
    moments = run.features("inception", fid.Moments)
    return lambda: {"fid": fid.fid(moments.all_reals, moments.all_fakes)}


def _kid(run: Run) -> Result:
    features = run.features("inception", Rows)
    return lambda: kid.kid(features.all_reals, features.all_fakes, seed=run.options.seed)._asdict()


def _is(run: Run) -> Result:
    classes = run.features("probabilities", Rows, with_real=False)
    return lambda: inception_score.inception_score(classes.all_fakes)._asdict()


def _pr(run: Run) -> Result:
    features = run.features("vgg", Rows)
    return lambda: precision_recall.precision_recall(
        features.all_reals.to(run.device), features.all_fakes.to(run.device)
    )._asdict()


def _dc(run: Run) -> Result:
    features = run.features("vgg", Rows)
    return lambda: density_coverage.density_coverage(
        features.all_reals.to(run.device), features.all_fakes.to(run.device)
    )._asdict()


def _ppl(name: str, space: str, sampling: str) -> Callable[[Run], Result]:
    def of(run: Run) -> Result:
        given = run.options.lpips
        distance = given if callable(given) else load_lpips(given, run.device)
        num = run.num_fake(ppl.NUM_PAIRS)
        return lambda: {
            name: ppl.ppl(
                run.G,
                distance,
                run.labels(0, num),
                num,
                space,
                sampling,
                batch=run.options.batch,
                seed=run.options.seed,
                report=run.options.report,
            )
        }

    return of


METRICS: dict[str, Callable[[Run], Result]] = {
    "swd": _swd,
    "ms-ssim": _ms_ssim,
    "fid": _fid,
    "kid": _kid,
    "is": _is,
    "pr": _pr,
    "dc": _dc,
    **{
        f"ppl-{space}{sampling}": _ppl(f"ppl_{space}{sampling}", space, sampling)
        for space in "zw"
        for sampling in ("full", "end")
    },
}
