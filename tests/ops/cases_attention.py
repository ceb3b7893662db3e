"""The cases of attention; what is particular to images is in test_attention.py."""

from __future__ import annotations

import random

import torch
from case import Arguments, Case


def _attention(what: str, shape: tuple[int, int, int], s: int, e: int, scale: float = 1.0, core: bool = False) -> Case:
    def tensors(generator: torch.Generator) -> Arguments:
        sizes = {"k": [shape[0], s, shape[2]], "v": [shape[0], s, e]}
        return {name: torch.randn(size, dtype=torch.float64, generator=generator) for name, size in sizes.items()}

    third = what == "third"
    return Case("attention", what, shape, tensors, {"scale": scale}, core, "q", (), ("q", "k", "v"), third=third)


CASES = [
    _attention("plain", (2, 5, 3), 4, 6),
    _attention("scale", (2, 5, 3), 4, 2, scale=0.3, core=True),
    _attention("third", (1, 3, 2), 2, 2),
    _attention("one_query", (2, 1, 3), 7, 1),
    _attention("two_keys", (2, 4, 3), 2, 5),
    _attention("empty_batch", (0, 4, 3), 2, 5),
    _attention("no_queries", (2, 0, 3), 2, 5),
    _attention("blocks", (2, 67, 9), 70, 24, scale=0.5),
]


def random_case(rng: random.Random, name: str) -> Case:
    n, length, d, s, e = (rng.randint(1, 12) for _ in range(5))
    return _attention(name, (n, length, d), s, e, scale=rng.uniform(-1, 1))
