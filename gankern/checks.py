"""One wording for every error: op, argument, expected, got, in that order."""

from __future__ import annotations

from collections.abc import Sequence
from operator import eq

import torch

FLOATING = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def message(op: str, argument: str, expected: str, got: object) -> str:
    """`gankern.bias_act: b must have shape [C] = [64], got [32]`."""
    return f"gankern.{op}: {argument} must {expected}, got {got}"


def bad_value(op: str, argument: str, expected: str, got: object) -> ValueError:
    return ValueError(message(op, argument, expected, got))


def bad_type(op: str, argument: str, expected: str, got: object) -> TypeError:
    return TypeError(message(op, argument, expected, got))


def check_tensor(op: str, argument: str, value: object) -> None:
    if not isinstance(value, torch.Tensor):
        raise bad_type(op, argument, "be a torch.Tensor", type(value).__name__)
    if value.layout is not torch.strided:
        raise bad_type(op, argument, "be a dense tensor", value.layout)


def check_tensors(op: str, argument: str, value: object) -> None:
    """A list or tuple of tensors: not one tensor, whose rows would count as such."""
    if not isinstance(value, list | tuple):
        raise bad_type(op, argument, "be a list of tensors", type(value).__name__)
    for i, tensor in enumerate(value):
        check_tensor(op, f"{argument}[{i}]", tensor)


def check_floating(op: str, argument: str, tensor: torch.Tensor) -> None:
    check_tensor(op, argument, tensor)
    if tensor.dtype not in FLOATING:
        raise bad_type(op, argument, "be float64, float32, bfloat16 or float16", tensor.dtype)


def check_image(op: str, x: torch.Tensor, argument: str = "x") -> None:
    """x is a floating-point batch of images [N, C, H, W] with at least one pixel."""
    check_floating(op, argument, x)
    if x.ndim != 4:
        raise bad_value(op, argument, "have 4 dimensions [N, C, H, W]", list(x.shape))
    if x.shape[2] < 1 or x.shape[3] < 1:
        raise bad_value(op, argument, "have H >= 1 and W >= 1", list(x.shape))


def check_same_device(op: str, argument: str, tensor: torch.Tensor, x: torch.Tensor) -> None:
    if tensor.device != x.device:
        raise bad_value(op, argument, f"be on the device of x, {x.device}", tensor.device)


def has_shape(tensor: torch.Tensor, *allowed: Sequence[int]) -> bool:
    """Whether a tensor has one of these shapes.

    Sizes are compared only where the number of dimensions agrees: a comparison of tuples would compare the first sizes
    all the same, and tie a traced graph to batches that differ from the height of its noise.
    """
    return any(len(shape) == tensor.ndim and all(map(eq, shape, tensor.shape)) for shape in allowed)


def check_number(op: str, argument: str, value: object) -> None:
    """A real number, not a tensor: a tensor's value would have to be read from its device."""
    if isinstance(value, float) and value != value:
        raise bad_value(op, argument, "not be NaN", value)
    if isinstance(value, int | float | torch.SymInt | torch.SymFloat):
        return
    if isinstance(value, torch.Tensor) or not hasattr(value, "__float__"):
        raise bad_type(op, argument, "be a number", type(value).__name__)
