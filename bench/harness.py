"""What is measured and how: cases, the three modes, parity, variants, interleaved timing."""

from __future__ import annotations

import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import torch
from torch.profiler import ProfilerActivity, profile

from gankern import dispatch

DTYPES = (torch.float32, torch.bfloat16)
LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
MODES = ("forward", "forward+backward", "forward+backward+double backward")
FLUSH_BYTES = 256 * 2**20  # several times the L2 of any GPU

# Rounding allowed beside twice eager's own error, relative to the size of the result.
SLACK = {torch.float32: 1e-5, torch.bfloat16: 4e-3}

Call = Callable[[], object]
Timer = Callable[[Call, int], float]


@dataclass(frozen=True)
class Case:
    """One op with fixed arguments on one shape and dtype."""

    op: str
    name: str  # of the arguments, for people
    shape: tuple[int, int, int, int]  # of x, [N, C, H, W]
    dtype: torch.dtype  # of x and of the bias
    eager: Callable[..., torch.Tensor]  # (x, *inputs, *constants) -> y, the best plain PyTorch
    ours: Callable[..., torch.Tensor]  # (x, *inputs, *constants, backend=...) -> y
    inputs: tuple[tuple[int, ...], ...] = ()  # shapes of the other inputs that want a gradient: a bias [C], ...
    constants: tuple[tuple[int, ...], ...] = ()  # shapes of those that want none: noise, ...; they come last
    reads_output: bool = False  # whether a backward pass reads the output besides the gradient
    reads_input: bool = False  # whether it reads x
    peer: Callable[..., torch.Tensor] | None = None  # (ops, x, *inputs, *constants) -> y, ops as `peer.load` gives them

    def __str__(self) -> str:
        return f"{self.op} {self.name} {'x'.join(map(str, self.shape))} {dtype_name(self.dtype)}"


def dtype_name(dtype: torch.dtype) -> str:
    return {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]


class ParityError(RuntimeError):
    """An op that computes something else has no speed."""


class Problem:
    """The tensors of one case in one layout, and the work of each mode on them."""

    def __init__(self, case: Case, layout: str, device: str) -> None:
        generator = torch.Generator().manual_seed(0)

        def randn(shape: Sequence[int]) -> torch.Tensor:
            x = torch.randn(shape, generator=generator).to(device, case.dtype)
            return x.contiguous(memory_format=LAYOUTS[layout]) if x.ndim == 4 else x

        self.inputs = [randn(shape).requires_grad_() for shape in (case.shape, *case.inputs)]
        self.constants = [randn(shape) for shape in case.constants]
        with torch.no_grad():
            y = case.eager(*self.inputs, *self.constants)
        self.dy = randn(y.shape).requires_grad_()
        self.ddx = randn(case.shape)  # what a gradient penalty sends back into dx

    def work(self, function: Callable[..., torch.Tensor], mode: str) -> tuple[torch.Tensor, ...]:
        """Runs one mode: y; and the gradients of every input; and the gradient of dx with respect to dy."""
        if mode == MODES[0]:
            with torch.no_grad():
                return (function(*self.inputs, *self.constants),)
        y = function(*self.inputs, *self.constants)
        if mode == MODES[1]:
            return y, *torch.autograd.grad(y, self.inputs, self.dy.detach())
        first = torch.autograd.grad(y, self.inputs, self.dy, create_graph=True)
        return y, *first, *torch.autograd.grad(first[0], self.dy, self.ddx)

    def exactly(self, function: Callable[..., torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The longest mode in float64."""
        exact = object.__new__(Problem)
        exact.inputs = [x.detach().double().requires_grad_() for x in self.inputs]
        exact.constants = [x.double() for x in self.constants]
        exact.dy = self.dy.detach().double().requires_grad_()
        exact.ddx = self.ddx.double()
        return exact.work(function, MODES[2])

    def copies(self, case: Case, mode: str) -> Call:
        """Moves, as plain copies, the bytes that each pass of `mode` must at least read and write."""
        x, y = self.inputs[0].nbytes, self.dy.nbytes
        saved = y * case.reads_output + x * case.reads_input
        passes = [(x, y), (y + saved, x), (x + saved, y)][: MODES.index(mode) + 1]  # (read, written)
        copies = [_copy(read, written, self.dy.device) for read, written in passes]
        return lambda: [copy() for copy in copies]


def _copy(read: int, written: int, device: torch.device) -> Call:
    """Copies into fresh memory. The rest, what is only written or only read, is a fill or a copy into old memory."""
    source = torch.ones(read // 4, device=device)
    both = min(read, written) // 4
    rest = max(read - written, 0) // 8
    scratch = torch.ones(rest, device=device)
    first, last = source[:both], source[both : both + rest]

    def copy() -> torch.Tensor:
        target = torch.empty(written // 4, device=device)
        (target[:both] if read < written else target).copy_(first)
        if read < written:
            target[both:].fill_(1)
        elif rest:
            scratch.copy_(last)
        return target

    return copy


def kernel_backends(op: str, device: str) -> list[str]:
    """The backends of gankern that run `op`, eager aside.

    Raises:
        RuntimeError: there is none.
    """
    backends = ("native",) if device == "cpu" else ("native", "triton")  # Triton's interpreter has no speed
    reasons = {backend: dispatch.why_not(op, backend, device) for backend in backends}
    able = [backend for backend, reason in reasons.items() if reason is None]
    if not able:
        raise RuntimeError(f"bench: {op} has no kernels on {device} to measure: {reasons}")
    return able


def check_parity(case: Case, device: str) -> None:
    """Compares ours with the reference on this very case: output, gradients, second gradient, in both layouts.

    The error against float64 is at most twice that of eager PyTorch in the same precision, plus rounding.

    Raises:
        ParityError: it is more; names the case.
    """
    for layout in LAYOUTS:
        problem = Problem(case, layout, device)
        truth = problem.exactly(case.eager)
        names = ("y", "dx", *(f"gradient {k + 1}" for k in range(len(case.inputs))), "ddy")
        eager = [_error(a, t) for a, t in zip(problem.work(case.eager, MODES[2]), truth, strict=True)]
        for backend in kernel_backends(case.op, device):
            results = problem.work(partial(case.ours, backend=backend), MODES[2])
            for name, result, t, of_eager in zip(names, results, truth, eager, strict=True):
                error, allowed = _error(result, t), 2 * of_eager + SLACK[case.dtype]
                if not error <= allowed:  # NaN is not
                    raise ParityError(
                        f"bench: {case}, {layout}, {backend}: the error of {name} must be at most {allowed:.1e} "
                        f"of its size, got {error:.1e}; nothing is reported"
                    )


def _error(result: torch.Tensor, truth: torch.Tensor) -> float:
    if result.shape != truth.shape:
        return float("inf")
    return float((result.detach().double() - truth.detach()).norm() / truth.detach().norm())


def eagers(case: Case) -> dict[str, Callable[..., torch.Tensor]]:
    """Plain PyTorch by name; in 16 bits also by way of float32, for its slow 16-bit convolutions."""
    if case.dtype == torch.float32:
        return {"eager": case.eager}
    return {"eager": case.eager, "eager-fp32": lambda *inputs: case.eager(*(x.float() for x in inputs)).to(case.dtype)}


def variants(
    case: Case, mode: str, device: str, compiled: bool, peer: Callable[[str], ModuleType] | None = None
) -> dict[str, Call]:
    """Everything that is compared, by name: '<who> <layout>', and 'copy'; `peer` as `bench.peer.load` gives it."""
    calls: dict[str, Call] = {}
    if compiled:
        torch._dynamo.reset()  # or Dynamo generalises over the cases, and gives up after eight
    for layout in LAYOUTS:
        problem = Problem(case, layout, device)
        for name, eager in eagers(case).items():
            calls[f"{name} {layout}"] = partial(problem.work, eager, mode)
        if compiled and mode != MODES[2]:
            plain = case.eager if device == "cuda" else list(eagers(case).values())[-1]
            function = torch.compile(plain, dynamic=False, fullgraph=True)
            calls[f"compile {layout}"] = partial(problem.work, function, mode)
        for backend in kernel_backends(case.op, device):
            calls[f"{backend} {layout}"] = partial(problem.work, partial(case.ours, backend=backend), mode)
        if peer is not None and case.peer is not None:
            calls[f"peer {layout}"] = partial(problem.work, partial(case.peer, peer), mode)
    calls["copy"] = problem.copies(case, mode)
    return calls


def peak_mb(call: Call, device: str) -> float:
    """The most memory that a call holds at once beside its inputs, in MB, results included."""
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with _silent_stderr(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = call()
    held = most = 0
    for event in sorted(recorded.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    del result
    return most / 1e6


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """The profiler's library writes lines of its own there, below Python."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def make_timer(device: str, flush_l2: bool = False) -> Timer:
    """Returns timer(call, number) -> seconds of one call, averaged over `number`; CUDA events on a GPU."""
    if device == "cpu":
        return _host_seconds
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=device) if flush_l2 else None
    return partial(_device_seconds, flush)


def _host_seconds(call: Call, number: int) -> float:
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number


def _device_seconds(flush: torch.Tensor | None, call: Call, number: int) -> float:
    if flush is not None and number > 1:
        return sum(_device_seconds(flush, call, 1) for _ in range(number)) / number
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    if flush is not None:
        flush.zero_()
    start.record()
    for _ in range(number):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / number


def measure(calls: dict[str, Call], timer: Timer, budget: float, rounds: int = 5) -> dict[str, list[float]]:
    """Times all calls in turn, round by round, so that a drift of the machine hits all alike.

    Args:
        calls: What to time, by name.
        timer: See `make_timer`.
        budget: Seconds for each call over all rounds, about.
        rounds: At least so many.

    Returns:
        Per name [median, lower quartile, upper quartile] in seconds.
    """
    numbers = {}
    for name, call in calls.items():
        timer(call, 1)  # compiles, fills caches
        once = min(timer(call, 2), timer(call, 2))
        numbers[name] = max(1, int(min(budget / rounds, 0.01) / once))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    end = time.perf_counter() + budget * len(calls)
    collecting = gc.isenabled()
    gc.disable()
    try:
        while len(seconds[order[0]]) < rounds or time.perf_counter() < end:
            for name in order:
                seconds[name].append(timer(calls[name], numbers[name]))
            order = order[1:] + order[:1]  # nobody always follows the same neighbour
    finally:
        if collecting:
            gc.enable()
    quartiles = {name: statistics.quantiles(values, n=4, method="inclusive") for name, values in seconds.items()}
    return {name: [median, lower, upper] for name, (lower, median, upper) in quartiles.items()}
