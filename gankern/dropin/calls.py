"""How often each op ran, on which backend: what `gankern.dropin.report()` prints."""

from __future__ import annotations

import torch

from gankern import dispatch

OF_TORCH = "torch"

# (op, the op of gankern.dispatch that does the work, device, forced backend) -> calls; two threads at once may lose one
CALLS: dict[tuple[str, str, str, str | None], int] = {}


def count(op: str, x: torch.Tensor, backend: str | None = None, kernels: str | None = None) -> None:
    """Counts one call of a published function; which backend that was is found out when somebody asks.

    Args:
        op: Its name, for the report.
        x: Its input.
        backend: 'torch' or the name of a backend, where it was not left to gankern.
        kernels: The op of `gankern.dispatch` that does the work, if its name is another one.
    """
    if not torch.compiler.is_compiling():  # a trace runs once, and a counter in it would be a guard
        key = (op, kernels or op, x.device.type, backend or dispatch._forced)
        CALLS[key] = CALLS.get(key, 0) + 1


def choose(op: str, x: torch.Tensor, impl: str) -> str | None:
    """Counts a call with the published argument `impl`: 'ref' is plain PyTorch, 'cuda' the fastest there is.

    Returns:
        'eager', or None to let gankern choose.

    Raises:
        ValueError: impl is neither.
    """
    if impl not in ("cuda", "ref"):
        raise ValueError(f"gankern.dropin.{op}: impl must be 'cuda' or 'ref', got {impl!r}")
    backend = "eager" if impl == "ref" else None
    count(op, x, backend)
    return backend


def table() -> dict[tuple[str, str], int]:
    """(op, backend) -> calls so far."""
    found: dict[tuple[str, str], int] = {}
    for (op, kernels, device, forced), calls in list(CALLS.items()):
        backend = forced if forced == OF_TORCH else dispatch.choose(kernels, device, forced)
        found[op, backend] = found.get((op, backend), 0) + calls
    return found
