"""Whether a backend does with a call what the eager reference does: the same numbers, or the same refusal."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from typing import Any

import torch
from calls import DTYPES, WRITTEN, Arranged, Call, function, with_noise

import gankern

# Winograd's algorithm promises errors below this share of the largest value, and spreads NaN to neighbours.
WINOGRAD = 2e-5
BY_WINOGRAD = {"winograd", "winograd_strided", "conv2d", "conv_transpose2d", "conv2d_resample", "modulated_conv2d"}
RANDOM = {"path_length_penalty", "wgan_gp_penalty"}  # in their dtype: the same numbers come again in that one only
NOT_FINITE = ("nan", "inf", "largest")
SIXTEEN_BITS = ("bf16", "fp16")
# What torch says of a result that no memory holds; asked of it only by calls that are valid.
TOO_LARGE = r"can't allocate memory|not enough memory|Storage size calculation overflowed|bad_alloc"


@dataclass
class Outcome:
    """What a call did: its results, what it wrote to, and gradients, by name; or its error."""

    values: dict[str, torch.Tensor] = field(default_factory=dict)
    error: Exception | None = None
    gradients: list[torch.Tensor] = field(default_factory=list)  # that were handed in, of first and second order


class Disagreement(AssertionError):
    pass


def check(call: Call, backend: str, device: str) -> str:
    """Raises Disagreement, or returns "refused", "equal", or "equal to order 2"."""
    arranged = Arranged(call, device)
    actual = run(call, arranged, backend if call.forced else None)
    damaged = arranged.damaged(call.op)
    if damaged:
        raise Disagreement(f"{call.op} wrote to memory of {', '.join(damaged)} that is not its own")
    eager = run(call, Arranged(call, device), "eager")
    if "unless backend='eager'" in str(actual.error):  # float64 in Winograd's algorithm
        return "refused"
    if any(t.device == "meta" for t in call.tensors()) and re.search(TOO_LARGE, str(eager.error)):
        return "refused"  # eager's own intermediate, which a kernel has not
    if actual.error is not None or eager.error is not None:
        check_refusal(call, actual.error, eager.error)
        return "refused"
    if actual.values.keys() != eager.values.keys():
        raise Disagreement(f"the results are {list(actual.values)}, eager's {list(eager.values)}")
    exact, noisy = eager, eager
    if all(tensor.device != "meta" for tensor in call.tensors()):
        wide, noise = call.op not in RANDOM, torch.finfo(DTYPES[narrowest(call)]).eps
        exact = run(call, Arranged(call, device, wide), "eager", eager.gradients)
        if exact.error is not None:
            raise Disagreement(f"float64 alone is refused: {exact.error!r}")
        noisy = run(call, Arranged(call, device, wide, noise), "eager", [with_noise(d, noise) for d in eager.gradients])
    magnitude = largest([*arranged.tensors(), *eager.gradients])
    is_nan = any(
        not y.isfinite().all() for name, y in exact.values.items() if name[0] == "y" and y.device.type != "meta"
    )
    for name, value in actual.values.items():
        if name[0] == "d" and is_nan:
            continue  # of what is not finite, the gradient is nobody's promise
        check_equal(call, name, value, eager.values[name], exact.values[name], noisy.values[name], magnitude)
    return f"equal to order {call.order}" if call.order else "equal"


def run(call: Call, arranged: Arranged, backend: str | None, gradients: list[torch.Tensor] | None = None) -> Outcome:
    """With `gradients` for those that are handed in, in place of random ones."""
    outcome, torch_state = Outcome(), torch.get_rng_state()
    torch.manual_seed(0)
    try:
        with gankern.use_backend(backend) if backend else contextlib.nullcontext():
            results = function(call.op)(**arranged.arguments)
            results = [] if results is None else [results] if isinstance(results, torch.Tensor) else list(results)
            outcome.values = {f"y{i}": y.detach() for i, y in enumerate(results)}
            for name in WRITTEN.get(call.op, ()):
                for i, placed in enumerate(arranged.placed.get(name, [])):
                    outcome.values[f"{name}{i}"] = placed.view
            if arranged.inputs:
                differentiate(call, arranged, results, outcome, iter(gradients) if gradients is not None else None)
    except Exception as error:
        outcome.error = error
    finally:
        torch.set_rng_state(torch_state)
    return outcome


def differentiate(
    call: Call, arranged: Arranged, results: list[torch.Tensor], outcome: Outcome, given: Any = None
) -> None:
    ys = [y for y in results if y.requires_grad]
    if not ys:
        return

    def handed_in(like: torch.Tensor, layout: str = call.dy) -> torch.Tensor:
        dense = random_like(like, layout, len(outcome.gradients)) if given is None else next(given).to(like.dtype)
        outcome.gradients.append(dense)
        return dense.detach().requires_grad_(call.order == 2)

    dys = [handed_in(y) for y in ys]
    found = torch.autograd.grad(ys, arranged.inputs, dys, create_graph=call.order == 2, allow_unused=True)
    for i, (name, t, d) in enumerate(zip(arranged.names, arranged.inputs, found, strict=True)):
        outcome.values[f"d{name}{i}"] = torch.zeros_like(t) if d is None else d.detach()
    first = [d for d in found if d is not None and d.requires_grad]
    if call.order < 2 or not first:
        return
    tangents = [handed_in(d, "permuted") for d in first]
    wrt = [*arranged.inputs, *dys]
    names = [*arranged.names, *("y" for _ in dys)]
    second = torch.autograd.grad(first, wrt, tangents, allow_unused=True)
    for i, (name, t, d) in enumerate(zip(names, wrt, second, strict=True)):
        outcome.values[f"dd{name}{i}"] = torch.zeros_like(t) if d is None else d.detach()


def random_like(y: torch.Tensor, layout: str, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = [1 if layout == "expanded" else n for n in y.shape]
    if layout == "permuted":
        shape = shape[::-1]
    values = torch.randn(shape, dtype=torch.float64, generator=generator).to(y.dtype).to(y.device)
    if layout == "nan":
        values[torch.rand(shape, generator=generator) < 0.05] = torch.nan
    return values.permute(tuple(range(y.ndim))[::-1]) if layout == "permuted" else values.expand(y.shape)


def check_refusal(call: Call, actual: Exception | None, eager: Exception | None) -> None:
    """Both of one type, both naming the op and an argument; or both without the memory for a valid result."""
    if type(actual) is not type(eager):
        raise Disagreement(f"refused with {actual!r}, by eager with {eager!r}")
    if re.search(TOO_LARGE, str(actual)) and re.search(TOO_LARGE, str(eager)):
        return
    for error in (actual, eager):
        if not re.match(r"gankern\.\w+: \w+", str(error)):
            raise Disagreement(f"an unclear error: {error!r}")


def check_equal(
    call: Call,
    name: str,
    actual: torch.Tensor,
    eager: torch.Tensor,
    exact: torch.Tensor,
    noisy: torch.Tensor,
    magnitude: float,
) -> None:
    """No tolerance to tune: an error of a few times eager's, or what the rounding of the inputs alone would do.

    Args:
        eager: In the same precision.
        exact: In float64.
        noisy: In float64, of inputs that are off by about a last place of the precision.
        magnitude: Of the largest number that went in.
    """
    for what in ("dtype", "shape", "device"):
        if getattr(actual, what) != getattr(eager, what):
            raise Disagreement(f"{name} has {what} {getattr(actual, what)}, eager's {getattr(eager, what)}")
    if actual.numel() == 0 or actual.device.type == "meta" or any(t.values == "largest" for t in call.tensors()):
        return
    if not actual.is_floating_point():
        if not torch.equal(actual, eager):
            raise Disagreement(f"{name} differs")
        return
    check_finite(call, name, actual, eager, exact)
    finite = actual.isfinite() & exact.isfinite() & eager.isfinite() & noisy.isfinite()
    if not finite.any():
        return
    actual, eager, exact, noisy = (t[finite].double() for t in (actual, eager, exact, noisy))
    dtype, most = narrowest(call), largest([exact])
    by_rounding = max((eager - exact).abs().max().item(), 2 * (noisy - exact).abs().max().item())
    eps = torch.finfo(DTYPES[dtype]).eps * (16 if dtype in ("fp32", "fp64") else 1)
    allowed = 4 * by_rounding + eps * max(most, magnitude)
    if dtype in ("fp32", *SIXTEEN_BITS):
        allowed += WINOGRAD * (1 + name.count("d")) * most if call.op in BY_WINOGRAD else 0
    error = (actual - exact).abs().max().item()
    if not error <= allowed:
        raise Disagreement(f"{name} is off by {error:.3g}, allowed are {allowed:.3g}, the largest is {most:.3g}")


def check_finite(call: Call, name: str, actual: torch.Tensor, eager: torch.Tensor, exact: torch.Tensor) -> None:
    """NaN and Inf come out where they go in; of a gradient, at least there: torch masks some, where 0 * NaN is NaN.

    A wider sum may be finite where eager's overflows, not the reverse.
    """
    lost = actual.isfinite() & ~eager.isfinite() & ~exact.isfinite()
    new = ~actual.isfinite() & eager.isfinite() & exact.to(actual.dtype).isfinite()
    if any(t.values in NOT_FINITE for t in call.tensors()) or (call.dy == "nan" and call.order > 0):
        if call.op in BY_WINOGRAD or name.startswith("d"):
            new = torch.zeros_like(new)
        # What comes of two infinities depends on the order of a sum, of a NaN weight on padding on who convolves.
        if lost.any() and call.op not in BY_WINOGRAD and all(t.values != "inf" for t in call.tensors()):
            raise Disagreement(f"{name} is finite at {int(lost.sum())} places where eager's is not")
    if new.any():
        raise Disagreement(f"{name} is not finite at {int(new.sum())} places where eager's is")


def largest(tensors: list[torch.Tensor]) -> float:
    """Of the finite numbers, 0 if there are none."""
    tensors = [t for t in tensors if t.is_floating_point() and t.device.type != "meta"]
    numbers = [t[t.isfinite()].abs().max().item() for t in tensors if t.isfinite().any()]
    return max(numbers, default=0.0)


def narrowest(call: Call) -> str:
    dtypes = {t.dtype for t in call.tensors() if DTYPES[t.dtype].is_floating_point} or {"fp32"}
    return next(d for d in ("bf16", "fp16", "fp32", "fp64") if d in dtypes)
