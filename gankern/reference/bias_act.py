"""bias_act in plain PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F

SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


class Activation(NamedTuple):
    """One activation of the field's bias_act: the function f(u, alpha) and its defaults."""

    func: Callable[[torch.Tensor, float], torch.Tensor]
    def_alpha: float
    def_gain: float
    curved: bool  # f'' is not zero almost everywhere


activation_funcs = {
    "linear": Activation(lambda u, alpha: u, 0.0, 1.0, False),
    "relu": Activation(lambda u, alpha: F.relu(u), 0.0, math.sqrt(2), False),
    "lrelu": Activation(lambda u, alpha: F.leaky_relu(u, alpha), 0.2, math.sqrt(2), False),
    "tanh": Activation(lambda u, alpha: torch.tanh(u), 0.0, 1.0, True),
    "sigmoid": Activation(lambda u, alpha: torch.sigmoid(u), 0.0, 1.0, True),
    "elu": Activation(lambda u, alpha: F.elu(u), 0.0, 1.0, True),
    "selu": Activation(lambda u, alpha: F.selu(u), 0.0, 1.0, True),
    "softplus": Activation(lambda u, alpha: F.softplus(u, threshold=40), 0.0, 1.0, True),  # 20 is too small in float64
    "swish": Activation(lambda u, alpha: F.silu(u), 0.0, math.sqrt(2), True),
}


# f(gain * u) = gain * f(u) for these, if gain > 0: into x itself with `overwrite`.
HOMOGENEOUS: dict[str, Callable[[torch.Tensor, float, bool], torch.Tensor]] = {
    "linear": lambda x, alpha, overwrite: x,
    "relu": lambda x, alpha, overwrite: F.relu(x, inplace=overwrite),
    "lrelu": lambda x, alpha, overwrite: F.leaky_relu(x, alpha, inplace=overwrite),
}


def bias_act(
    x: torch.Tensor,
    b: torch.Tensor | None,
    dim: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    overwrite: bool = False,
) -> torch.Tensor:
    """y = clamp(gain * f(x + b)); arguments as in `gankern.bias_act`, all given.

    What is nobody else's is changed in place: new memory costs more than the arithmetic. So is x, with `overwrite`.
    """
    if b is not None:
        shape = [1] * x.ndim
        shape[dim] = -1
        b = b.to(x.dtype).reshape(shape)
        x, overwrite = x.add_(b) if overwrite else x + b, True
    if act in HOMOGENEOUS and gain > 0 and alpha >= 0:  # the derivative of an in-place lrelu refuses alpha < 0
        if gain != 1:
            x, overwrite = x.mul_(gain) if overwrite else x * gain, True
        x = HOMOGENEOUS[act](x, alpha, overwrite)
    else:
        x = activation_funcs[act].func(x, alpha)
        x = x if gain == 1 else x * gain
    if clamp is None or clamp > torch.finfo(x.dtype).max:
        return x
    return x.clamp(-clamp, clamp)


def slope_derivative(
    ref: torch.Tensor,
    b: torch.Tensor | None,
    dim: int,
    act: str,
    gain: float,
    clamp: float | None,
) -> torch.Tensor:
    """d(dy/dx)/d(ref) of a curved activation, ref being what its backward saved: x for swish, else y.

    In terms of y the slope is a polynomial or an exponential, s(y) = gain * f'(f^-1(y / gain)), and the chain rule
    through y itself gives every higher order. Computed in at least float32; zero where the output is clamped.
    """
    r = ref if ref.dtype == torch.float64 else ref.float()
    if act == "swish":
        if b is not None:
            shape = [1] * r.ndim
            shape[dim] = -1
            r = r + b.to(r.dtype).reshape(shape)
        sigmoid = torch.sigmoid(r)
        y = gain * r * sigmoid
        derivative = gain * sigmoid * (1 - sigmoid) * (2 + r * (1 - 2 * sigmoid))
    else:
        y = r
        v = r / gain if gain != 0 else r * 0
        if act == "tanh":
            derivative = -2 * v
        elif act == "sigmoid":
            derivative = 1 - 2 * v
        elif act == "softplus":
            derivative = torch.exp(-v)
        else:  # elu and selu: s = y + constant below zero, constant above
            derivative = (v < 0).to(r.dtype)
    if clamp is not None:
        derivative = torch.where(y.abs() < clamp, derivative, 0.0)
    return derivative.to(ref.dtype)
