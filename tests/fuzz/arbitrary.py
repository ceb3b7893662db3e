"""The parts that the calls of all ops are drawn from: sizes, strides, tensors, numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from calls import Arguments, Tensor
from hypothesis import strategies as st

SIZES = [0, 1, 2, 3, 4, 5, 7, 8, 13, 17, 31, 33, 64, 129]
HUGE = [1, 2, 3, 40009, 65536, 2**20 + 1]
LARGEST = 6000  # elements of a tensor, so that thousands of calls take a minute
FLOATS = ["fp32", "fp32", "fp64", "bf16", "fp16"]
VALUES = ["normal"] * 12 + ["zero", "tiny", "large", "largest", "nan", "inf"]
ACTS = ["linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish"]
INTEGERS = [-(2**64), -(2**63), -(2**31), -7, -1, 0, 1, 2, 3, 7, 127, 128, 129, 2**31, 2**40, 2**62, 2**63, 2**64]
REALS = [math.nan, math.inf, -math.inf, -1.0, -0.0, 1e-300, 0.5]  # beyond float32 torch refuses some, and some not
STRANGE = [None, "x", "", True, [], [1], [1, 2, 3, 4, 5], 0.5, -1]


class Arbitrary:
    """Draws the parts of a call.

    Attributes:
        dtype: Of the call's main tensor.
        sizes: That a dimension may have.
        device: Of all tensors, as in calls.Tensor.
    """

    def __init__(self, draw: Callable[[st.SearchStrategy], Any], dtype: str, huge: bool = False) -> None:
        self.draw, self.dtype = draw, dtype
        self.sizes = HUGE if huge else SIZES
        self.device = "meta" if huge else ""
        self.values = "normal" if huge else self.of(VALUES)

    def of(self, choices: Any) -> Any:
        return self.draw(st.sampled_from(list(choices)))

    def maybe(self, value: Any) -> Any:
        return value if self.draw(st.booleans()) else None

    def flag(self) -> bool:
        return self.draw(st.booleans())

    def between(self, least: int, most: int) -> int:
        return self.draw(st.integers(least, most))

    def size(self, least: int = 0, most: int = 2**31) -> int:
        return self.of([s for s in self.sizes if least <= s <= most])

    def image(self, least: int = 1, most: int = 2**31) -> tuple[int, int, int, int]:
        """[N, C, H, W], not too large together."""
        shape = [self.of([0, 1, 1, 2, 3, 4]), self.size(most=most), self.size(least, most), self.size(least, most)]
        while self.device == "" and math.prod(shape) > LARGEST:
            largest = shape.index(max(shape))
            shape[largest] //= 2
        return shape[0], shape[1], shape[2], shape[3]

    def tensor(self, *shape: int, dtype: str | None = None, dense: bool = False) -> Tensor:
        dtype = self.dtype if dtype is None else dtype
        strides = dense_strides(shape) if dense or self.device == "meta" else self.strides(shape)
        return Tensor(tuple(shape), strides, dtype, self.values, self.between(0, 255), self.device)

    def beside(self, *shape: int, dense: bool = False) -> Tensor:
        """Of the dtype of the main tensor, or float32."""
        return self.tensor(*shape, dtype=self.of([self.dtype, "fp32"]), dense=dense)

    def strides(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Dense, permuted, with gaps, expanded or overlapping."""
        how = self.of(["dense", "dense", "last", "permuted", "gaps", "expanded", "overlapping"])
        order = list(range(len(shape)))
        if how == "last" and len(shape) > 2:
            order = [0, *order[2:], 1]
        elif how in ("permuted", "gaps"):
            order = list(self.draw(st.permutations(order)))
        steps = [self.of([1, 1, 2, 3]) for _ in shape] if how == "gaps" else [1] * len(shape)
        if how == "overlapping":
            return tuple(self.of([0, 1, 2, 3, 5]) for _ in shape)
        strides, step = [0] * len(shape), 1
        for d in reversed(order):
            step *= steps[d]
            strides[d] = step
            step *= max(1, shape[d])
        for d, n in enumerate(shape):
            if how == "expanded" and self.flag():
                strides[d] = 0
            elif n == 1 and how == "gaps":
                strides[d] = self.of([0, 1, 2, 1000])  # which says nothing
        return tuple(strides)

    def number(self, *usual: float) -> float:
        return self.of([*usual, *usual, 0.0, 1.0, 0.37])

    def filter(self, most: int = 7) -> Tensor | None:
        shape = self.of([None, (self.between(1, most),), (self.between(1, most), self.between(1, most))])
        return None if shape is None else replace(self.tensor(*shape, dtype="fp32"), values="normal")

    def padding(self, least: int = -3) -> int | list[int]:
        number = st.integers(least, 9)
        return self.draw(
            st.one_of(number, st.lists(number, min_size=2, max_size=2), st.lists(number, min_size=4, max_size=4))
        )

    def scale(self) -> int | list[int]:
        return self.draw(st.one_of(st.integers(1, 4), st.lists(st.integers(1, 5), min_size=2, max_size=2)))

    def pair(self, least: int, most: int) -> int | list[int]:
        number = st.integers(least, most)
        return self.draw(st.one_of(number, st.lists(number, min_size=2, max_size=2)))

    def tail(self, acts: list[str] = ACTS) -> Arguments:
        return {
            "act": self.of(acts),
            "alpha": self.of([None, None, 0.2, 0.0, -0.3]),
            "gain": self.of([None, None, 1, 0.7, -1.3, 0]),
            "clamp": self.of([None, None, None, 0.9, 0]),
        }

    def noise(self, n: int, h: int, w: int) -> Tensor | None:
        shape = self.of([None, (h, w), (1, 1, h, w), (n, 1, h, w)])
        return None if shape is None else self.beside(*shape)


def dense_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(max(1, n) for n in shape[d + 1 :]) for d in range(len(shape)))
