"""The cases of every op: one list that drives every backend."""

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
ACTIVATIONS = ("linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish")
SMOOTH = ("tanh", "sigmoid", "softplus", "swish")
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


@dataclass(frozen=True)
class Case:
    """One call of one op.

    Attributes:
        op: A public function of gankern.
        what: What is particular about it; part of the test's id.
        shape: Of x.
        tensors: Makes the other tensors, from a random generator. float64 tensors take the dtype of the test.
        options: The other arguments.
        core: Whether it also runs in the tests that take seconds (compilation, layouts).
    """

    op: str
    what: str
    shape: tuple[int, ...]
    tensors: Callable[[torch.Generator], Arguments]
    options: Arguments
    core: bool = False

    @property
    def id(self) -> str:
        """bias_act-lrelu-4x64x16x16"""
        return f"{self.op}-{self.what}-{'x'.join(map(str, self.shape))}"

    @property
    def kernel(self) -> str:
        """The op whose kernels do the work."""
        return self.op if self.op in gankern.dispatch.OPS else "upfirdn2d"

    @property
    def small(self) -> bool:
        """Whether its numerical derivative takes little time."""
        return math.prod(self.shape) <= 200

    def arguments(self, dtype: torch.dtype, device: str = "cpu", layout: str = "contiguous") -> Arguments:
        """The keyword arguments of the call: the same values for every dtype, device and layout."""
        generator = torch.Generator().manual_seed(zlib.crc32(self.id.encode()))
        tensors = {"x": torch.randn(self.shape, dtype=torch.float64, generator=generator), **self.tensors(generator)}
        for name, tensor in tensors.items():
            if tensor is not None:
                tensor = tensor.to(dtype) if tensor.dtype == torch.float64 else tensor
                tensors[name] = tensor.to(device)
        tensors["x"] = LAYOUTS[layout](tensors["x"])
        return {**tensors, **self.options}

    def run(self, arguments: Arguments, backend: str) -> torch.Tensor:
        return getattr(gankern, self.op)(**arguments, backend=backend)

    def run_with_gradients(self, arguments: Arguments, backend: str, dy: torch.Tensor | None = None) -> Arguments:
        """The result y, and the gradients dx (and db) for dy, by default a fixed random one."""
        inputs = {name: arguments[name].detach().requires_grad_() for name in differentiable(arguments)}
        y = self.run({**arguments, **inputs}, backend)
        dy = like_random(y) if dy is None else dy.to(y)
        gradients = torch.autograd.grad(y, list(inputs.values()), dy)
        return {"y": y.detach(), **{f"d{name}": d for name, d in zip(inputs, gradients, strict=True)}}


def differentiable(arguments: Arguments) -> list[str]:
    return [name for name in ("x", "b") if isinstance(arguments.get(name), torch.Tensor)]


def widened(arguments: Arguments) -> Arguments:
    """The same values in float64; a filter stays float32."""
    return {**arguments, **{name: arguments[name].double() for name in differentiable(arguments)}}


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


def _bias_act(what: str, shape: tuple[int, ...], bias: str | None = "b", core: bool = False, **options: Any) -> Case:
    def tensors(generator: torch.Generator) -> Arguments:
        if bias is None:
            return {"b": None}
        b = torch.randn(shape[options.get("dim", 1)], dtype=torch.float64, generator=generator)
        return {"b": b.float() if bias == "float32" else b}

    return Case("bias_act", what, shape, tensors, options, core)


def _filter(op: str, what: str, shape: tuple[int, ...], taps: Any = None, core: bool = False, **options: Any) -> Case:
    """`taps` is the shape of a random filter, a list of its numbers, or None."""

    def tensors(generator: torch.Generator) -> Arguments:
        if isinstance(taps, tuple):
            return {"f": torch.randn(taps, generator=generator) / math.sqrt(math.prod(taps))}
        return {"f": None if taps is None else gankern.setup_filter(taps)}

    return Case(op, what, shape, tensors, options, core)


def _upfirdn2d(what: str, shape: tuple[int, ...], taps: Any = None, core: bool = False, **options: Any) -> Case:
    return _filter("upfirdn2d", what, shape, taps, core, **options)


BINOMIAL = [1, 3, 3, 1]
IMAGE = (2, 3, 5, 4)

BIAS_ACT = [
    *(_bias_act(act, IMAGE, act=act, core=act in ("lrelu", "swish")) for act in ACTIVATIONS),
    *(_bias_act(f"{act}-clamp", IMAGE, act=act, gain=1.7, clamp=0.8, core=act == "tanh") for act in ACTIVATIONS),
    *(_bias_act(f"{act}-gain_negative", (3, 7), act=act, gain=-0.6) for act in ACTIVATIONS),
    *(_bias_act(f"{act}-gain_0", (3, 7), act=act, gain=0.0, clamp=0.5) for act in ("relu", "tanh", "elu", "swish")),
    *(_bias_act(f"{act}-clamp_0", (3, 7), act=act, clamp=0.0) for act in ("linear", "lrelu", "softplus")),
    *(_bias_act(f"lrelu-alpha_{alpha}", (3, 7), act="lrelu", alpha=alpha) for alpha in (-0.5, 0.0, 1.5)),
    *(_bias_act(f"{act}-no_bias", IMAGE, None, act=act) for act in ("linear", "lrelu", "sigmoid", "swish")),
    *(_bias_act(f"{act}-bias_float32", (3, 7, 2, 2), "float32", act=act) for act in ("lrelu", "swish")),
    *(_bias_act(f"swish-dim_{dim}", (3, 2, 4, 5), dim=dim, act="swish") for dim in (0, 2, -1)),
    _bias_act("lrelu-dim_0", (11,), dim=0, act="lrelu"),
    _bias_act("linear-dim_0", (13,), dim=0),
    _bias_act("selu-five_dimensions", (2, 3, 2, 2, 3), act="selu"),
    _bias_act("softplus-one_channel", (3, 1, 5, 5), act="softplus"),
    _bias_act("tanh-one_pixel", (2, 5, 1, 1), act="tanh"),
    *(_bias_act(f"{act}-empty_batch", (0, 4, 3, 3), act=act) for act in ("lrelu", "swish")),
    _bias_act("sigmoid-no_channels", (2, 0, 3, 3), act="sigmoid"),
    *(_bias_act(act, (3, 7, 11, 13), act=act, clamp=1.0) for act in ("lrelu", "softplus", "swish")),
    *(_bias_act(act, (4, 64, 16, 16), act=act) for act in ("lrelu", "tanh")),
    _bias_act("lrelu", (67, 129), act="lrelu"),
]

UPFIRDN2D = [
    _upfirdn2d("identity", IMAGE),
    _upfirdn2d("gain", IMAGE, gain=-2.5, padding=1),
    _upfirdn2d("one_tap_1d", IMAGE, (1,), padding=[1, 0]),
    *(_upfirdn2d(f"{k}x{k}-same", IMAGE, (k, k), padding=[k // 2, (k - 1) // 2] * 2) for k in (2, 3, 4, 5, 6, 7)),
    _upfirdn2d("binomial-up_2", IMAGE, BINOMIAL, up=2, padding=[2, 1, 2, 1], gain=4, core=True),
    _upfirdn2d("binomial-down_2", (2, 3, 6, 5), BINOMIAL, down=2, padding=1, core=True),
    _upfirdn2d("binomial-same-flip", IMAGE, (4, 4), padding=[2, 1, 2, 1], flip_filter=True, core=True),
    *(_upfirdn2d(f"1d_{n}-up_2", (1, 2, 4, 3), (n,), up=2, padding=n // 2, gain=4) for n in (5, 8, 12, 20)),
    *(_upfirdn2d(f"1d_{n}-down_2", IMAGE, (n,), down=2, padding=n // 2) for n in (3, 8, 24)),
    _upfirdn2d("1d_6-gain_negative-flip", IMAGE, (6,), padding=3, gain=-2, flip_filter=True),
    _upfirdn2d("2d_12-up_4", (1, 2, 3, 2), (12, 12), up=4, padding=[7, 4, 7, 4], gain=16),
    _upfirdn2d("up_x_only", IMAGE, (1, 4), up=[2, 1], padding=[2, 1, 0, 0]),
    _upfirdn2d("down_y_only", IMAGE, (4, 1), down=[1, 2], padding=[0, 0, 1, 1]),
    _upfirdn2d("7x3-up_1_3-down_2_1", IMAGE, (7, 3), up=[1, 3], down=[2, 1], padding=[1, 0, 3, 2]),
    _upfirdn2d("up_3-down_2", IMAGE, (3, 5), up=3, down=2, padding=[3, -1, 2, 0]),
    _upfirdn2d("up_2-down_2", IMAGE, (4, 4), up=2, down=2, padding=1, core=True),
    _upfirdn2d("down_more_than_the_image", IMAGE, (2, 2), down=9, padding=0),
    _upfirdn2d("up_more_than_the_filter", (1, 2, 3, 2), (2, 3), up=5, padding=[1, 0, 0, 2]),
    _upfirdn2d("cropped", (2, 3, 7, 6), (2, 2), padding=-1),
    _upfirdn2d("cropped-up_2", IMAGE, (4, 4), up=2, padding=[-3, 1, 2, -2]),
    _upfirdn2d("only_padding_is_left", (1, 2, 3, 3), (2, 2), padding=[-4, 7, 6, -5]),
    _upfirdn2d("padding_larger_than_the_image", (1, 2, 2, 3), (3, 3), padding=[6, 5, 4, 7]),
    _upfirdn2d("gain_0", IMAGE, (3, 3), gain=0, padding=1),
    _upfirdn2d("one_pixel", (1, 1, 1, 1), (4, 4), up=2, padding=[2, 1, 2, 1]),
    _upfirdn2d("one_column", (2, 3, 9, 1), (3, 1), padding=[0, 0, 1, 1], down=[1, 2]),
    _upfirdn2d("empty_batch", (0, 3, 4, 5), BINOMIAL, up=2, padding=[2, 1, 2, 1]),
    _upfirdn2d("no_channels", (2, 0, 4, 5), BINOMIAL, down=2, padding=1),
    *(
        _upfirdn2d("binomial-up_2", shape, BINOMIAL, up=2, padding=[2, 1, 2, 1])
        for shape in ((2, 5, 17, 19), (1, 33, 8, 16))
    ),
    *(_upfirdn2d("binomial-down_2", shape, BINOMIAL, down=2, padding=1) for shape in ((2, 5, 19, 37), (1, 33, 8, 16))),
    *(_upfirdn2d("binomial-same", shape, BINOMIAL, padding=[2, 1, 2, 1]) for shape in ((2, 5, 17, 41), (1, 33, 8, 16))),
    _upfirdn2d("1d_12-same", (2, 5, 17, 41), (12,), padding=[6, 5, 6, 5]),
    _filter("filter2d", "5x5", IMAGE, (5, 5)),
    _filter("filter2d", "1d_9-padding", IMAGE, (9,), padding=[1, -1], flip_filter=True),
    _filter("upsample2d", "binomial", IMAGE, BINOMIAL),
    _filter("upsample2d", "3x5-up_2_3", (1, 2, 4, 3), (3, 5), up=[2, 3], padding=[1, 0, 0, -1], gain=0.5),
    _filter("downsample2d", "binomial", (2, 3, 6, 5), BINOMIAL),
    _filter("downsample2d", "1d_8-down_1_3", (2, 3, 6, 5), (8,), down=[1, 3], padding=2),
]

CASES = [*BIAS_ACT, *UPFIRDN2D]
