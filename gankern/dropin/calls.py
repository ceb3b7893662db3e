"""How often each op ran, on which backend: what `gankern.dropin.report()` prints."""

from __future__ import annotations

import torch

from gankern import dispatch

CALLS: dict[tuple[str, str], int] = {}  # (op, backend) -> calls; two threads at once may lose one


def count(op: str, backend: str) -> None:
    if not torch.compiler.is_compiling():  # a trace runs once, and a counter in it would be a guard
        CALLS[op, backend] = CALLS.get((op, backend), 0) + 1


def choose(op: str, x: torch.Tensor, impl: str = "cuda", kernels: str | None = None) -> str | None:
    """The backend for one call of a published function, which is counted.

    Args:
        op: Its name, for the report.
        x: Its input.
        impl: 'ref' asks for plain PyTorch, 'cuda' for the fastest there is.
        kernels: The op of `gankern.dispatch` that does the work, if its name is another one.

    Returns:
        'eager', or None to let gankern choose.

    Raises:
        ValueError: impl is neither.
    """
    if impl not in ("cuda", "ref"):
        raise ValueError(f"gankern.dropin.{op}: impl must be 'cuda' or 'ref', got {impl!r}")
    backend = "eager" if impl == "ref" else None
    count(op, dispatch.choose(kernels or op, x.device.type, backend))
    return backend
