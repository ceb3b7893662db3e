"""Which backend runs an op, and why the others do not.

Three backends: `native` (C++ on the CPU, CUDA on the GPU), `triton`, and `eager` (plain PyTorch, always there).
Force one with `op(..., backend="triton")`, `with use_backend("eager"):` or the environment variable GANKERN_BACKEND,
in that order of precedence. A forced backend that cannot run raises; it never falls back.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

BACKENDS = ("native", "triton", "eager")

# Automatic choice, first that can run wins. One row per op: which kernels there are, in the order of their speed, which
# changes only on a measurement.
ORDER: dict[str, dict[str, tuple[str, ...]]] = {
    "attention": {"cpu": ("native", "eager"), "cuda": ("native", "eager")},
    "bias_act": {"cpu": ("native", "eager"), "cuda": ("native", "triton", "eager")},
    "conditional_batch_norm": {"cpu": ("native", "eager"), "cuda": ("triton", "eager")},
    "conv2d": {"cpu": ("native", "eager"), "cuda": ("native", "eager")},
    "filtered_lrelu": {"cpu": ("native", "eager"), "cuda": ("native", "triton", "eager")},
    "grid_sample": {"cpu": ("native", "eager"), "cuda": ("triton", "eager")},
    "minibatch_stddev": {"cpu": ("native", "eager"), "cuda": ("triton", "eager")},
    "pixel_norm": {"cpu": ("native", "eager"), "cuda": ("triton", "eager")},
    "spectral_norm_batched": {"cpu": ("native", "eager"), "cuda": ("triton", "eager")},
    "style_epilogue": {"cpu": ("native", "eager"), "cuda": ("triton", "eager")},
    "styled_bias_act": {"cpu": ("native", "eager"), "cuda": ("triton", "eager")},
    "fade": {"cpu": ("native", "eager"), "cuda": ("triton", "eager")},
    "squared_norms": {"cpu": ("native", "eager"), "cuda": ("triton", "eager")},
    "upfirdn2d": {"cpu": ("native", "eager"), "cuda": ("native", "triton", "eager")},
    "upsample_add": {"cpu": ("native", "eager"), "cuda": ("triton", "eager")},
    "winograd": {"cpu": ("native", "eager"), "cuda": ("eager",)},
    "winograd_strided": {"cpu": ("native", "eager"), "cuda": ("eager",)},
}
OPS = tuple(ORDER)

# (op, device): the op has no kernels of its own there, and is composed of ops that have; the backend is theirs.
COMPOSED = {
    ("attention", "cuda"),
    ("conv2d", "cpu"),
    ("conv2d", "cuda"),
    ("filtered_lrelu", "cuda"),
}
OF_TORCH = ("attention", "conv2d")  # torch's own, which are there even where nothing is built

# (op, backend, device) -> why it cannot run. Filled once, at import: choosing is a look-up, which torch.compile traces.
MISSING: dict[tuple[str, str, str], str] = {}

_forced: str | None = None
_nested: list[str | None] = []  # what was forced outside of every `use_backend`, then each that is open
_warned: set[str] = set()


def choose(op: str, device: str, backend: str | None = None) -> str:
    """Returns the name of the backend that runs `op` on tensors of device type `device`.

    Raises:
        ValueError: the name of a backend is unknown.
        RuntimeError: the backend was forced and cannot run, with the reason.
    """
    forced = backend or _forced
    if forced is not None:
        check_name(forced, "backend")
        reason = why_not(op, forced, device)
        if reason is not None:
            raise RuntimeError(f"gankern.{op}: backend '{forced}' cannot run on {device}: {reason}")
        return forced
    for candidate in ORDER[op].get(device, ("native", "eager") if device == "meta" else ("eager",)):
        if (op, candidate, device) not in MISSING:
            if candidate == "eager" and device == "cuda":
                _warn_slow(op)
            return candidate
    return "eager"


def known_size(size: int | torch.SymInt) -> int:
    """A size; while a graph is traced, that of the example, and 0 where there is none.

    A traced graph then keeps the routine that suits its example, and is right for every size: asking about the symbolic
    one would tie the graph to sizes with the same answer.
    """
    return size if isinstance(size, int) else (size.node.hint or 0)


def is_forced(backend: str | None) -> bool:
    """Whether the caller chose, in one of the three ways; if not, an op may know a size where eager is faster."""
    return (backend or _forced) is not None


def why_not(op: str, backend: str, device: str) -> str | None:
    """Returns why `backend` cannot run `op` on `device`, or None if it can."""
    if backend == "eager" or device == "meta":
        return None
    if device not in ("cpu", "cuda"):
        return f"there are no {backend} kernels for {device} tensors; backend='eager' runs there"
    return MISSING.get((op, backend, device))


def check_name(name: str, source: str) -> None:
    if name not in BACKENDS:
        raise ValueError(f"gankern: {source} must be one of {', '.join(BACKENDS)}, got '{name}'")


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Forces one backend for every gankern op called inside; process-wide, gradients follow their forward."""
    global _forced
    check_name(name, "use_backend(name)")
    _nested.extend([name] if _nested else [_forced, name])
    _forced = name
    try:
        yield
    finally:
        # Of several threads, who entered first may leave first: each takes back its own.
        del _nested[len(_nested) - 1 - _nested[::-1].index(name)]
        _forced = _nested[-1]
        if len(_nested) == 1:
            _nested.clear()


def explain(op: str, x: torch.Tensor | str = "cpu") -> str:
    """Says which backend runs `op` for a tensor (or a device type), and why the others do not.

    >>> print(gankern.explain("bias_act", x))
    bias_act on cpu
      native  <- runs
      triton  Triton kernels need a GPU ...
      eager   can run
    """
    if op not in OPS:
        raise ValueError(f"gankern.explain: op must be one of {', '.join(OPS)}, got '{op}'")
    device = x if isinstance(x, str) else x.device.type
    chosen = choose(op, device)
    lines = [f"{op} on {device}"]
    for backend in BACKENDS:
        reason = why_not(op, backend, device)
        state = "<- runs" if backend == chosen else reason or "can run"
        lines.append(f"  {backend:7s} {state}")
    return "\n".join(lines)


def _warn_slow(op: str) -> None:
    if op not in _warned:
        _warned.add(op)
        warnings.warn(
            f"gankern.{op} runs as plain PyTorch on the GPU, which is slow. native: {MISSING[op, 'native', 'cuda']}; "
            f"triton: {MISSING[op, 'triton', 'cuda']}. `python -m gankern.doctor` shows the whole table.",
            stacklevel=4,
        )


def _load(stem: str, hint: str) -> str | None:
    """Loads the kernels of `gankern/<stem>.*.so`; returns why it could not, or None. Absent is quiet, broken loud."""
    found = sorted(Path(__file__).parent.glob(f"{stem}.*so"))
    if not found:
        return f"the native library is not built; {hint}"
    try:
        torch.ops.load_library(found[0])
    except OSError as error:
        reason = f"{found[0].name} does not load ({error}); {hint}"
        warnings.warn(f"gankern: {reason}", stacklevel=2)
        return reason
    return None


def _triton_reason(device: str) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed; pip install triton"
    if device == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        return "Triton kernels need a GPU (TRITON_INTERPRET=1, set before Python starts, runs them interpreted)"
    return None


def _find_backends() -> None:
    build = "build it with `pip install --no-build-isolation -e .`"
    reasons = {("native", "cpu"): _load("_C", build)}
    if torch.version.cuda is None:
        reasons["native", "cuda"] = "this PyTorch is built without CUDA"
    else:
        reasons["native", "cuda"] = _load("_C_cuda", f"{build} where nvcc is")
    reasons["triton", "cpu"] = _triton_reason("cpu")
    reasons["triton", "cuda"] = _triton_reason("cuda")
    for (backend, device), reason in reasons.items():
        for op, order in ORDER.items():
            # Triton's kernels are those of the GPU, in its interpreter.
            if backend not in order["cuda" if backend == "triton" else device]:
                reason_of_op: str | None = f"{op} has no {backend} kernels there"
            else:
                reason_of_op = None if op in OF_TORCH else reason
            if reason_of_op is not None:
                MISSING[op, backend, device] = reason_of_op


def _force_from_environment() -> None:
    global _forced
    name = os.environ.get("GANKERN_BACKEND")
    if name:
        check_name(name, "the environment variable GANKERN_BACKEND")
        _forced = name
