"""A call as plain data: it can be drawn, written to a file before it runs, printed, kept, and made again."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

import gankern

DTYPES = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int64": torch.int64,
    "bool": torch.bool,
    "complex64": torch.complex64,
}
GUARD = 61  # elements before and after each tensor; odd, so that no tensor lies aligned
Arguments = dict[str, Any]


@dataclass(frozen=True)
class Tensor:
    """A tensor of random numbers, anywhere in a larger block of memory that is otherwise NaN.

    Attributes:
        shape, strides: Any that torch can express: gaps, 0 (expanded), elements that share memory.
        dtype: A key of DTYPES.
        values: "normal", "positive", "zero", "tiny" (denormal), "large" (1e4), "largest" (of the dtype), or "nan" or
            "inf" (some are).
        seed: Of the numbers.
        device: "" for the one that the call runs on, or "meta".
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str = "fp32"
    values: str = "normal"
    seed: int = 0
    device: str = ""


@dataclass(frozen=True)
class Call:
    """One call of a public op.

    Attributes:
        op: Its name in gankern.
        arguments: By name: numbers, strings, Tensors, lists of them.
        order: Derivatives that are compared too: 0, 1 or 2.
        forced: Whether the backend is forced, or chosen by gankern.
        dy: Of the gradient: "dense", "permuted", "expanded" (what sum() hands back), or "nan" (dense, some are NaN).
    """

    op: str
    arguments: Arguments = field(default_factory=dict)
    order: int = 0
    forced: bool = True
    dy: str = "dense"

    def json(self) -> str:
        def encode(value: Any) -> Any:
            if isinstance(value, Tensor):
                return {"tensor": {k: v for k, v in asdict(value).items() if k in ("shape", "strides") or v}}
            return str(value)

        return json.dumps(self.__dict__, default=encode)

    @staticmethod
    def parse(text: str) -> Call:
        def decode(value: dict) -> Any:
            if set(value) != {"tensor"}:
                return value
            fields = value["tensor"]
            return Tensor(**{**fields, "shape": tuple(fields["shape"]), "strides": tuple(fields["strides"])})

        return Call(**json.loads(text, object_hook=decode))

    def tensors(self) -> Iterator[Tensor]:
        for value in self.arguments.values():
            yield from (t for t in (value if isinstance(value, list) else [value]) if isinstance(t, Tensor))


class Placed:
    """A Tensor in memory."""

    def __init__(self, made_from: Tensor, device: str) -> None:
        shape, strides, dtype = made_from.shape, made_from.strides, DTYPES[made_from.dtype]
        self.is_meta = made_from.device == "meta"
        if self.is_meta:
            self.view = torch.empty_strided(shape, strides, dtype=dtype, device="meta")
            return
        size = 0 if 0 in shape else 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        self.at = torch.zeros([1], dtype=torch.int64)  # of each element, in memory
        for n, s in zip(shape, strides, strict=True):
            self.at = (self.at[:, None] + torch.arange(n) * s).flatten()
        self.memory = torch.full([size + 2 * GUARD], torch.nan if dtype.is_floating_point else 1).to(dtype)
        self.memory[GUARD + self.at] = random_values(made_from, size)[self.at]
        self.memory = self.memory.to(device)
        self.before = self.memory.clone()
        self.view = self.memory.as_strided(shape, strides, GUARD)

    def is_intact(self, except_own: bool) -> bool:
        """Whether the memory holds what it held, its own elements perhaps excepted."""
        if self.is_meta:
            return True
        now, then = self.memory.cpu().clone(), self.before.cpu().clone()
        if except_own:
            now[GUARD + self.at] = then[GUARD + self.at]
        return torch.equal(now.view(torch.uint8), then.view(torch.uint8))


def random_values(made_from: Tensor, size: int) -> torch.Tensor:
    generator, dtype = torch.Generator().manual_seed(made_from.seed), DTYPES[made_from.dtype]
    normal = torch.randn([size], dtype=torch.float64, generator=generator)
    if not dtype.is_floating_point:
        return normal.mul(3).to(dtype)
    scale = {"zero": 0.0, "tiny": torch.finfo(dtype).tiny / 8, "large": 1e4, "largest": torch.finfo(dtype).max / 4}
    values = normal.abs() + 0.5 if made_from.values == "positive" else normal * scale.get(made_from.values, 1.0)
    if made_from.values in ("nan", "inf"):
        some = torch.rand([size], generator=generator) < 0.1
        values[some] = torch.nan if made_from.values == "nan" else torch.inf * normal[some].sign()
    return values.to(dtype)


# What an op writes to, and the tensors that have no gradient.
WRITTEN = {
    "conditional_batch_norm": ("running_mean", "running_var"),
    "ema_update": ("dst",),
    "path_length_penalty": ("pl_mean",),
    "sanitize_gradients": ("gradients",),
    "spectral_norm_batched": ("us", "vs", "sigmas"),
}
CONSTANT = {"f", "fu", "fd", "resample_filter", "src", "beta", "taps", *itertools.chain(*WRITTEN.values())}
FLOAT32 = {"f", "fu", "fd", "resample_filter", "taps"}  # whatever the dtype of the rest


def _penalty(name: str) -> Callable[..., Any]:
    def run(D: Any, x: Any, weight: Any, **options: Any) -> Any:
        act = D
        D = (lambda v: gankern.bias_act(v.flatten(1) * weight, act=act).sum(1)) if act in ("softplus", "swish") else D
        return getattr(gankern, name)(D, x, **options)

    return run


def _path_length(ws: Any, weight: Any, pl_mean: Any, decay: Any) -> Any:
    img = gankern.bias_act(ws * weight, act="softplus").flatten(1)[:, :, None, None]  # [N, num_ws * w_dim, 1, 1]
    return gankern.path_length_penalty(img, ws, pl_mean, decay)


def _wgan_gp(D: Any, real: Any, fake: Any, weight: Any, target: Any) -> Any:
    return _penalty("wgan_gp_penalty")(D, real, weight, fake=fake, target=target)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "r1_penalty": _penalty("r1_penalty"),
    "r2_penalty": _penalty("r2_penalty"),
    "path_length_penalty": _path_length,
    "wgan_gp_penalty": _wgan_gp,
    "setup_filter": lambda taps, **options: gankern.setup_filter(taps, **options),
}


def function(op: str) -> Callable[..., Any]:
    return FUNCTIONS.get(op) or getattr(gankern, op)


class Arranged:
    """The arguments of a call in memory; `wide` in float64, with the same values; all wrong by shares of `noise`."""

    def __init__(self, call: Call, device: str, wide: bool = False, noise: float = 0.0) -> None:
        self.placed: dict[str, list[Placed]] = {}
        self.arguments = {name: self._arrange(name, value, device) for name, value in call.arguments.items()}
        if wide:
            for name in set(self.placed) - FLOAT32:
                self.arguments[name] = _map(lambda t: t.double() if t.is_floating_point() else t, self.arguments[name])
        if noise > 0:
            for name in self.placed:
                self.arguments[name] = _map(lambda t: with_noise(t, noise), self.arguments[name])
        self.inputs: list[torch.Tensor] = []
        self.names: list[str] = []
        if call.order > 0:
            for name in self.placed:
                if name not in CONSTANT:
                    self.arguments[name] = _map(self._as_input(name), self.arguments[name])

    def _arrange(self, name: str, value: Any, device: str) -> Any:
        def place(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            placed = Placed(value, device)
            self.placed.setdefault(name, []).append(placed)
            return placed.view

        return [place(v) for v in value] if isinstance(value, list) else place(value)

    def _as_input(self, name: str) -> Callable[[torch.Tensor], torch.Tensor]:
        def make(t: torch.Tensor) -> torch.Tensor:
            if not t.is_floating_point():
                return t
            self.inputs.append(t.detach().requires_grad_())
            self.names.append(name)
            return self.inputs[-1]

        return make

    def tensors(self) -> list[torch.Tensor]:
        return [placed.view for placed in itertools.chain(*self.placed.values()) if not placed.is_meta]

    def damaged(self, op: str) -> list[str]:
        written = WRITTEN.get(op, ())
        return [name for name, all_ in self.placed.items() if not all(p.is_intact(name in written) for p in all_)]


def with_noise(t: torch.Tensor, noise: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(t.numel())
    shares = 1 + noise * torch.randn(t.shape, dtype=torch.float64, generator=generator)
    return (t * shares.to(t.device)).to(t.dtype) if t.is_floating_point() else t


def _map(f: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    if isinstance(value, list):
        return [_map(f, v) for v in value]
    return f(value) if isinstance(value, torch.Tensor) else value
