"""What stops the published code on today's PyTorch, NumPy, SciPy and torchvision, mended where it is.

Each mend accepts what was accepted once, and changes nothing else.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import numpy
import torch

from gankern.dropin.journal import Journal

# Modules that have another name now. BasicSR imports this one.
RENAMED = {"torchvision.transforms.functional_tensor": "torchvision.transforms._functional_tensor"}


def _sampler_takes_a_data_source(journal: Journal) -> None:
    """`Sampler.__init__(data_source)`: every InfiniteSampler calls it so."""

    def __init__(self: Any, data_source: Any = None) -> None:
        pass

    if "data_source" not in inspect.signature(torch.utils.data.Sampler.__init__).parameters:
        journal.set(torch.utils.data.Sampler, "__init__", __init__)
        journal.lines.append("mended      torch.utils.data.Sampler: takes the argument data_source")


def _adam_takes_integers(journal: Journal) -> None:
    """`betas=[0, 0.99]`: torch 2.6 and later want floats."""
    for optimizer in (torch.optim.Adam, torch.optim.AdamW):
        journal.set(optimizer, "__init__", _with_float_betas(optimizer.__init__))
    journal.lines.append("mended      torch.optim.Adam, AdamW: integer betas")


def _with_float_betas(init: Any) -> Any:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        betas = bound.arguments.get("betas")
        if isinstance(betas, list | tuple):
            bound.arguments["betas"] = tuple(float(b) if isinstance(b, int) else b for b in betas)
        init(*bound.args, **bound.kwargs)

    return __init__


def _percentile_takes_interpolation(journal: Journal) -> None:
    """`numpy.percentile(interpolation=)`: `method` since NumPy 1.22, alone since 2.4."""
    percentile = numpy.percentile

    @functools.wraps(percentile)
    def with_interpolation(*args: Any, **kwargs: Any) -> Any:
        if "interpolation" in kwargs:
            kwargs["method"] = kwargs.pop("interpolation")
        return percentile(*args, **kwargs)

    journal.set(numpy, "percentile", with_interpolation)
    journal.lines.append("mended      numpy.percentile: takes the argument interpolation")


def mend_scipy(linalg: Any, journal: Journal) -> None:
    """`scipy.linalg.sqrtm(A, disp=False)` gives the root and an error estimate; SciPy 1.18 has no `disp`."""
    sqrtm = linalg.sqrtm

    @functools.wraps(sqrtm)
    def with_disp(A: Any, disp: bool = True, **kwargs: Any) -> Any:
        root = sqrtm(A, **kwargs)
        if disp:
            return root
        error = numpy.linalg.norm(root @ root - A) ** 2 / numpy.linalg.norm(A)
        return root, error

    journal.set(linalg, "sqrtm", with_disp)
    journal.lines.append("mended      scipy.linalg.sqrtm: takes the argument disp")


def mend(journal: Journal) -> None:
    """All of them but those of SciPy and torchvision, which are for when they are imported."""
    _sampler_takes_a_data_source(journal)
    _adam_takes_integers(journal)
    _percentile_takes_interpolation(journal)
