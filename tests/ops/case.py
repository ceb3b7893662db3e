"""A case is one call of one op; the cases_<op>.py beside this file list them, and drive every backend."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import gankern

DTYPES = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Arguments = dict[str, Any]

LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda x: x.contiguous(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.mT.contiguous().mT,
    "batch_innermost": lambda x: x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
    "every_second_column": lambda x: torch.stack([x, x + 9], dim=-1).flatten(-2)[..., ::2],
    "inner_window": lambda x: torch.nn.functional.pad(x, [1, 2, 2, 1], value=9.0)[:, :, 2:-1, 1:-2],
    "every_second_channel": lambda x: torch.stack([x, x + 9], dim=2).flatten(1, 2)[:, ::2],
    "half_of_channels_last": lambda x: LAYOUTS["channels_last"](torch.cat([x + 9, x], dim=1))[:, x.shape[1] :],
}

# Weights [O, I, 3, 3] as a caller may have them.
WEIGHTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "channels_last": LAYOUTS["channels_last"],
    "transposed": lambda w: w.transpose(0, 1).contiguous().transpose(0, 1),
    "transposed_channels_last": lambda w: LAYOUTS["channels_last"](w.transpose(0, 1)).transpose(0, 1),
    "bfloat16": lambda w: w.bfloat16(),
}


@dataclass(frozen=True)
class Case:
    """One call of one op.

    Attributes:
        op: A public function of gankern.
        what: What is particular about it; part of the test's id.
        shape: Of the main tensor.
        tensors: Makes the other tensors, from a random generator. float64 tensors take the dtype of the test.
        options: The other arguments.
        core: Whether it also runs in the tests that take seconds (compilation, layouts).
        main: The name of the first tensor, made of random numbers.
        images: The tensors [N, C, H, W] that come in every memory layout.
        wrt: The tensors that have a gradient, where they are given.
        kernel: The op whose kernels do the work, where it is not `op` itself.
        third: Whether its derivatives are checked to third order.
        of_largest: Error in float32 that its algorithm promises to stay below, as a share of the largest value.
    """

    op: str
    what: str
    shape: tuple[int, ...]
    tensors: Callable[[torch.Generator], Arguments]
    options: Arguments
    core: bool = False
    main: str = "x"
    images: tuple[str, ...] = ("x",)
    wrt: tuple[str, ...] = ("x", "b")
    kernel: str = ""
    third: bool = False
    of_largest: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernel", self.kernel or self.op)

    @property
    def id(self) -> str:
        """bias_act-lrelu-4x64x16x16"""
        return f"{self.op}-{self.what}-{'x'.join(map(str, self.shape))}"

    @property
    def small(self) -> bool:
        """Whether its numerical derivative takes little time."""
        return math.prod(self.shape) <= 200

    def arguments(self, dtype: torch.dtype, device: str = "cpu", layout: str = "contiguous") -> Arguments:
        """The keyword arguments of the call: the same values for every dtype, device and layout."""
        tensors = self._tensors()
        for name, tensor in tensors.items():
            if tensor is not None:
                tensor = tensor.to(dtype) if tensor.dtype == torch.float64 else tensor
                tensors[name] = LAYOUTS[layout](tensor.to(device)) if name in self.images else tensor.to(device)
        return {**tensors, **self.options}

    def _tensors(self) -> Arguments:
        generator = torch.Generator().manual_seed(zlib.crc32(self.id.encode()))
        main = torch.randn(self.shape, dtype=torch.float64, generator=generator)
        return {self.main: main, **self.tensors(generator)}

    def differentiable(self, arguments: Arguments) -> list[str]:
        return [name for name in self.wrt if isinstance(arguments.get(name), torch.Tensor)]

    def widened(self, arguments: Arguments) -> Arguments:
        """The same values in float64; what is float32 in every test (a filter) stays so."""
        names = [name for name, tensor in self._tensors().items() if tensor is not None]
        names = [n for n in names if n in self.wrt or self._tensors()[n].dtype == torch.float64]
        return {**arguments, **{name: arguments[name].double() for name in names}}

    def run(self, arguments: Arguments, backend: str) -> torch.Tensor:
        return getattr(gankern, self.op)(**arguments, backend=backend)

    def run_with_gradients(self, arguments: Arguments, backend: str, dy: torch.Tensor | None = None) -> Arguments:
        """The result y, and the gradients dx, db, ... for dy, by default a fixed random one."""
        inputs = {name: arguments[name].detach().requires_grad_() for name in self.differentiable(arguments)}
        y = self.run({**arguments, **inputs}, backend)
        dy = like_random(y) if dy is None else dy.to(y)
        gradients = torch.autograd.grad(y, list(inputs.values()), dy)
        return {"y": y.detach(), **{f"d{name}": d for name, d in zip(inputs, gradients, strict=True)}}


def like_random(y: torch.Tensor, seed: int = 1) -> torch.Tensor:
    """Random numbers of the shape, dtype, device and strides of y; the same for every dtype but for rounding."""
    values = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.empty_like(y).copy_(values)


class Kernels(TorchDispatchMode):
    """Records the calls of gankern's kernels, with their arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace in ("gankern", "gankern_triton"):
            self.calls.append((func, args))
        return func(*args, **(kwargs or {}))

    @property
    def names(self) -> list[str]:
        """["gankern.bias_act", ...]"""
        return [f"{func.namespace}.{func._opname}" for func, _ in self.calls]
