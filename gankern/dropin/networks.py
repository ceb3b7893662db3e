"""Level "models": the `modulated_conv2d` of the files that define the networks, which is where most of the time goes.

It takes the place of a function of that name with exactly the published parameters, in modules named `networks*` and in
those that an old pickle brings along. The per-sample grouped convolution, and the three passes over memory around the
ungrouped one, become `gankern.modulated_conv2d`.
"""

from __future__ import annotations

import functools
import re
import sys
from typing import Any

import torch

import gankern
from gankern.dropin.calls import count
from gankern.dropin.journal import Journal, parameters, undecorated

NETWORKS = re.compile(r"(?:^|\.)networks\w*(?:\.|$)")


def modulated_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    styles: torch.Tensor,
    noise: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: Any = 0,
    resample_filter: torch.Tensor | None = None,
    demodulate: bool = True,
    flip_weight: bool = True,
    fused_modconv: bool = True,
) -> torch.Tensor:
    """`gankern.modulated_conv2d`, which chooses by itself between grouped and ungrouped; they differ by rounding."""
    count("modulated_conv2d", x, kernels="conv2d")
    return gankern.modulated_conv2d(
        x, weight, styles, noise, up, down, padding, resample_filter, demodulate, flip_weight
    )


def modulated_conv2d_of_stylegan3(
    x: torch.Tensor,
    w: torch.Tensor,
    s: torch.Tensor,
    demodulate: bool = True,
    padding: Any = 0,
    input_gain: torch.Tensor | None = None,
) -> torch.Tensor:
    """The same with weights and styles of root mean square 1, and a gain of the input that demodulation ignores."""
    count("modulated_conv2d", x, kernels="conv2d")
    if demodulate:
        w = w * w.square().mean([1, 2, 3], keepdim=True).rsqrt()  # [O, I, k, k]
        s = s * s.square().mean().rsqrt()  # [N, I]
    return gankern.modulated_conv2d(x, w, s, padding=padding, demodulate=demodulate, input_gain=input_gain)


PUBLISHED = {parameters(function): function for function in (modulated_conv2d, modulated_conv2d_of_stylegan3)}


def replace_in(module: Any, journal: Journal) -> None:
    """Replaces `modulated_conv2d` in a module that defines it with published parameters."""
    function = vars(module).get("modulated_conv2d")
    if function is None or getattr(undecorated(function), "__module__", None) != module.__name__:
        return
    ours = PUBLISHED.get(parameters(function))
    if ours is None:
        journal.lines.append(
            f"left alone  {module.__name__}.modulated_conv2d: its parameters are not the published ones"
        )
        return
    journal.replace(module, {"modulated_conv2d": ours})
    journal.lines.append(f"replaced    {module.__name__}.modulated_conv2d")


def watch_pickles(persistence: Any, journal: Journal) -> None:
    """Replaces it too in the modules that `torch_utils.persistence` makes from the source inside a pickle."""
    reconstruct = vars(persistence).get("_reconstruct_persistent_obj")
    if reconstruct is None:
        return

    @functools.wraps(reconstruct)
    def reconstruct_and_replace(meta: Any) -> Any:
        found = reconstruct(meta)
        for name in {cls.__module__ for cls in type(found).__mro__}:
            if name in sys.modules and name not in sys.stdlib_module_names:
                replace_in(sys.modules[name], journal)
        return found

    journal.set(persistence, "_reconstruct_persistent_obj", reconstruct_and_replace)
