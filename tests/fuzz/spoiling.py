"""One argument of a call made wrong: another shape, dtype, device, type or range."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from arbitrary import ACTS, INTEGERS, REALS, STRANGE, Arbitrary, dense_strides
from calls import Arguments, Tensor

NOT_IN_A_CALL = ("weight", "ws")  # of the penalties: what the fuzzer's own network is made of


def spoiled(a: Arbitrary, op: str, arguments: Arguments) -> Arguments:
    """One argument is something else: a wrong shape, dtype, device, type or range."""
    name = a.of([k for k in arguments if "penalty" not in op or k not in NOT_IN_A_CALL])
    value = arguments[name]
    if isinstance(value, list) and value and isinstance(value[0], Tensor):
        i = a.between(0, len(value) - 1)
        other: Any = a.of(
            [value[:-1], [*value, value[0]], value[0], [*value[:i], spoiled_tensor(a, value[i]), *value[i + 1 :]]]
        )
    elif isinstance(value, Tensor):
        other = spoiled_tensor(a, value, may_be_meta="penalty" not in op and op != "setup_filter")
    elif value is None:
        other = a.of([*STRANGE, a.tensor(), a.tensor(2, 3)])
    elif isinstance(value, bool):
        other = a.of(STRANGE)
    elif isinstance(value, int):
        other = a.of([*INTEGERS, *INTEGERS, *STRANGE])
    elif isinstance(value, float):
        other = a.of([*REALS, *REALS, *STRANGE])
    elif isinstance(value, list):
        other = a.of([value[:-1], [*value, 1], [a.of(INTEGERS), *value[1:]], [a.of(STRANGE), *value[1:]], *STRANGE])
    else:
        other = a.of([*STRANGE, *ACTS])
    return {**arguments, name: other}


def spoiled_tensor(a: Arbitrary, t: Tensor, may_be_meta: bool = True) -> Any:
    ways = ["dtype", "larger", "smaller", "empty", "more", "fewer", "strange"]
    how = a.of([*ways, "meta"] if may_be_meta else ways)
    if how == "dtype":
        return replace(t, dtype=a.of(["fp64", "fp32", "bf16", "fp16", "int64", "bool", "complex64"]))
    if how == "meta":
        return replace(t, device="meta")
    if how == "strange":
        return a.of([*STRANGE, math.nan])
    if how == "more":
        shape = (*t.shape, 1) if a.flag() else (1, *t.shape)
    elif not t.shape:
        shape = (2,)
    else:
        d = a.between(0, len(t.shape) - 1)
        change = {"larger": [t.shape[d] + 1], "smaller": [max(0, t.shape[d] - 1)], "empty": [0], "fewer": []}[how]
        shape = (*t.shape[:d], *change, *t.shape[d + 1 :])
    return replace(t, shape=shape, strides=dense_strides(shape))
