"""The arrays and numbers of NumPy in a pickle, without NumPy's own functions for it."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .restricted_pickle import Function

PLAIN = re.compile(r"[<>=|]?([fiu][1248]|b1)")  # numbers of 1 to 8 bytes; no objects


class DType:
    """A type of numbers; its byte order comes after its making."""

    def __init__(self, code: Any, align: Any = False, copy: Any = True) -> None:
        if not isinstance(code, str) or not PLAIN.fullmatch(code):
            raise ValueError(f"an array has elements of type {str(code)[:40]!r}, expected numbers")
        self.code = np.dtype(code)

    def fill(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "=", "|"):
            raise ValueError("an array's type of numbers is damaged")
        self.code = self.code.newbyteorder(state[1])


class Array:
    """An array; its content comes after its making."""

    def __init__(self, *_: Any) -> None:
        self.content: Tensor | None = None

    def fill(self, state: Any) -> None:
        shape, dtype, is_fortran, raw = state[-4:]
        self.content = torch.from_numpy(_numbers(raw, dtype, shape, "F" if is_fortran else "C"))

    def tensor(self) -> Tensor:
        """The content.

        Raises:
            ValueError: There is none.
        """
        if self.content is None:
            raise ValueError("an array has no content")
        return self.content


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> Array:
    array = Array()
    array.fill((shape, dtype, order == "F", raw))
    return array


def _scalar(dtype: Any, raw: Any) -> Any:
    return _numbers(raw, dtype, (), "C").item()


def _numbers(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    raw = raw.encode("latin1") if isinstance(raw, str) else raw  # bytes of Python 2
    if not isinstance(raw, bytes | bytearray) or not isinstance(dtype, DType):
        raise ValueError("an array is damaged")
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ValueError("an array's shape is damaged")
    if len(raw) != math.prod(shape) * dtype.code.itemsize:
        raise ValueError(f"an array of shape {list(shape)} has {len(raw)} bytes")
    flat = np.frombuffer(raw, dtype.code).astype(dtype.code.newbyteorder("="))
    return flat.reshape(shape, order=order).copy(order="C")


NUMPY: dict[str, Any] = {"numpy.ndarray": None, "numpy.dtype": Function(DType)}
for core in ("numpy.core", "numpy._core"):  # until 1.26 and since 2.0
    NUMPY[f"{core}.multiarray._reconstruct"] = Function(Array)
    NUMPY[f"{core}.multiarray.scalar"] = Function(_scalar)
    NUMPY[f"{core}.numeric._frombuffer"] = Function(_from_buffer)
