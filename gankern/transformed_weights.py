"""Weights in the form that Winograd's algorithm multiplies with, kept for the next time that the same numbers come.

Kept by content: whatever changes a weight, an optimiser, `.data`, NumPy or another process, it is transformed anew. To
find out takes a tenth of a transform. The memory of what came last a while ago serves what is new: fresh memory would
cost several times the transform.
"""

from __future__ import annotations

import os
import sys
import threading

import torch

MOST_BYTES = int(os.environ.get("GANKERN_KEPT_WEIGHTS_MB", "1024")) << 20
WHILE = 192  # so many calls is longer than a training iteration, after which weights are others

_kept: dict[tuple, tuple[torch.Tensor, int]] = {}  # oldest first: transformed, and at which call it came last
_calls = 0
_lock = threading.Lock()


def _in_child() -> None:
    """Of a fork, which copies a lock that another thread holds, but not the thread."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def transformed(w: torch.Tensor, transposed: bool, strided: bool) -> torch.Tensor:
    """What `winograd_weight` or, if strided, `winograd_strided_weight` makes of w; not to be written to.

    Args:
        w: Weights [O, I, 3, 3], or [I, O, 3, 3] of a transposed convolution, on the CPU.
        transposed, strided: Of the convolution.
    """
    from gankern._host import fingerprint

    global _calls
    w = w.contiguous()
    key = (fingerprint(w.data_ptr(), w.nbytes), w.shape, w.dtype, transposed, strided)
    with _lock:
        _calls += 1
        u = _kept.pop(key, (None, 0))[0]
        if u is None:
            u = _transform(w, transposed, strided)
        if u.nbytes <= MOST_BYTES:
            _kept[key] = (u, _calls)
    return u


def _transform(w: torch.Tensor, transposed: bool, strided: bool) -> torch.Tensor:
    ops = torch.ops.gankern
    o, i = (w.shape[1], w.shape[0]) if transposed else (w.shape[0], w.shape[1])
    u = _memory((o + 31) // 32 * 32 * 36 * i)
    if u is None:
        return (ops.winograd_strided_weight if strided else ops.winograd_weight)(w, transposed)
    (ops.winograd_strided_weight_into if strided else ops.winograd_weight_into)(w, transposed, u)
    return u


def _memory(size: int) -> torch.Tensor | None:
    """Makes room for so many numbers; the memory of an old one of this size, if there is one that nobody reads."""
    total = 4 * size + sum(t.nbytes for t, _ in _kept.values())
    for key, (u, call) in list(_kept.items()):
        is_old, is_too_much = call < _calls - WHILE, total > MOST_BYTES
        if not is_old and not is_too_much:
            break
        fits = u.numel() == size and sys.getrefcount(u) <= 3  # of the list, of this function, of getrefcount
        # Old ones of other sizes wait for their next use: to free and allocate in turn would cut malloc's memory up.
        if fits or is_too_much or call < _calls - 8 * WHILE:
            del _kept[key]
            total -= u.nbytes
        if fits:
            return u
    return None
