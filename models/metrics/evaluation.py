"""Measures a generator by several metrics, in one pass over its images and one over the real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..ranks import Rows
from ..training.images import ImageData
from ..training.state import Generator
from . import density_coverage, fid, inception_score, kid, ppl, precision_recall, swd
from .collecting import Options, PairCollection, PatchCollection, Run
from .extractors import load_extractor, load_lpips

__all__ = ["METRICS", "Options", "evaluate", "prepare"]

Result = Callable[[], dict[str, float]]


@torch.no_grad()
def evaluate(G: Generator, data: ImageData, metrics: Sequence[str], options: Options | None = None) -> dict[str, float]:
    """Measures a generator against real images.

    Args:
        G: Generator in evaluation mode, `G(z, c)` with `z_dim`, on its device.
        data: Real images, of the generator's size, or larger by a whole number and then averaged down to it.
        metrics: Names of `METRICS`.
        options: See there.

    Returns:
        The values by name; a metric may have several.

    Raises:
        ValueError: A metric is unknown, or images do not suit it.
        FileNotFoundError: A metric needs a weights file that is not there.
    """
    device = next(G.parameters()).device
    run = Run(G, data, prepare(metrics, options or Options(), device), device)
    results = [METRICS[name].start(run) for name in metrics]
    run.collect()
    return {name: value for result in results for name, value in result().items()}


def prepare(metrics: Sequence[str], options: Options, device: torch.device) -> Options:
    """The options with the networks that the metrics need, read from their files: what can go wrong, goes wrong here.

    Args:
        metrics: Names of `METRICS`.
        options: Those files; an extractor that is there already stays.
        device: Where the networks shall run.

    Raises:
        ValueError: A metric is unknown.
        FileNotFoundError: A metric needs a weights file that is not there.
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or not metrics:
        raise ValueError(f"evaluate: metrics must be of {', '.join(METRICS)}, got {', '.join(unknown) or 'none'}")
    extractors, distance = dict(options.extractors), options.distance
    for needs in {METRICS[name].needs for name in metrics}:
        if needs == "lpips":
            distance = distance or load_lpips(options.lpips, device)
        elif needs is not None and needs not in extractors:
            file = options.vgg if needs == "vgg" else options.inception
            extractors[needs] = load_extractor(file, needs, device)
    return replace(options, extractors=extractors, distance=distance)


class Metric(NamedTuple):
    """How a metric is measured."""

    start: Callable[[Run], Result]  # says which collections it wants; what it returns reads them when they are full
    needs: str | None = None  # output of an extractor, or lpips


def _swd(run: Run) -> Result:
    patches = run.want("patches", lambda: PatchCollection(run))
    options = run.options
    return lambda: swd.swd(patches.of_reals, patches.of_fakes, options.seed, run.device, options.report)


def _ms_ssim(run: Run) -> Result:
    pairs = run.want("pairs", lambda: PairCollection(run))
    return lambda: {"ms_ssim": pairs.similarities.gather().mean().item()}


def _fid(run: Run) -> Result:
    moments = run.features("inception", fid.Moments)
    return lambda: {"fid": fid.fid(moments.all_reals, moments.all_fakes)}


def _is(run: Run) -> Result:
    classes = run.features("probabilities", Rows, with_real=False)
    return lambda: inception_score.inception_score(classes.all_fakes)._asdict()


def _of_features(output: str, metric: Callable[[Tensor, Tensor], Any]) -> Callable[[Run], Result]:
    """A metric of the features of real and generated images that returns a named tuple."""

    def start(run: Run) -> Result:
        sets = run.features(output, Rows)
        return lambda: metric(sets.all_reals.to(run.device), sets.all_fakes.to(run.device))._asdict()

    return start


def _ppl(space: str, sampling: str) -> Callable[[Run], Result]:
    def start(run: Run) -> Result:
        options, distance = run.options, run.options.distance
        num = run.num_fake(ppl.NUM_PAIRS)
        if distance is None:
            raise ValueError("evaluate: ppl needs a distance, see prepare()")
        value = partial(ppl.ppl, batch=options.batch, seed=options.seed, report=options.report)
        return lambda: {f"ppl_{space}{sampling}": value(run.G, distance, run.labels(0, num), num, space, sampling)}

    return start


METRICS: dict[str, Metric] = {
    "swd": Metric(_swd),
    "ms-ssim": Metric(_ms_ssim),
    "fid": Metric(_fid, "inception"),
    "kid": Metric(_of_features("inception", kid.kid), "inception"),
    "is": Metric(_is, "probabilities"),
    "pr": Metric(_of_features("vgg", precision_recall.precision_recall), "vgg"),
    "dc": Metric(_of_features("vgg", density_coverage.density_coverage), "vgg"),
    "ppl-zfull": Metric(_ppl("z", "full"), "lpips"),
    "ppl-zend": Metric(_ppl("z", "end"), "lpips"),
    "ppl-wfull": Metric(_ppl("w", "full"), "lpips"),
    "ppl-wend": Metric(_ppl("w", "end"), "lpips"),
}
