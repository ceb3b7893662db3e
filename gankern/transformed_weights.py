"""Weights in the form that Winograd's algorithm multiplies with, kept for the next time that the same numbers come.

Kept by content: whatever changes a weight, an optimiser, `.data`, NumPy or another process, it is transformed anew. To
find out takes a tenth of a transform.
"""

from __future__ import annotations

import os
import random
import threading

import torch

# How many bytes are kept, of weights that are used in as few tiles as this at most: with more, their transform costs
# next to nothing.
MOST_BYTES = int(os.environ.get("GANKERN_KEPT_WEIGHTS_MB", "1024")) << 20
MOST_TILES = 512

_kept: dict[tuple, torch.Tensor] = {}
_lock = threading.Lock()


def transformed(w: torch.Tensor, transposed: bool, strided: bool) -> torch.Tensor:
    """What `winograd_weight` or, if strided, `winograd_strided_weight` makes of w.

    Args:
        w: Weights [O, I, 3, 3], or [I, O, 3, 3] of a transposed convolution, on the CPU.
        transposed, strided: Of the convolution.
    """
    from gankern._host import fingerprint

    w = w.contiguous()
    key = (fingerprint(w.data_ptr(), w.nbytes), w.shape, w.dtype, transposed, strided)
    u = _kept.get(key)
    if u is None:
        ops = torch.ops.gankern
        u = (ops.winograd_strided_weight if strided else ops.winograd_weight)(w, transposed)
        with _lock:
            while _kept and sum(t.nbytes for t in _kept.values()) + u.nbytes > MOST_BYTES:
                # Any one, but not the oldest: training goes round, and what is oldest comes next.
                del _kept[random.choice(list(_kept))]
            if u.nbytes <= MOST_BYTES:
                _kept[key] = u
    return u
