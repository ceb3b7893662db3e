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
    "softplus": Activation(lambda u, alpha: F.softplus(u), 0.0, 1.0, True),
    "swish": Activation(lambda u, alpha: F.silu(u), 0.0, math.sqrt(2), True),
}


def bias_act(
    x: torch.Tensor,
    b: torch.Tensor | None,
    dim: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
) -> torch.Tensor:
    """y = clamp(gain * f(x + b)); arguments as in `gankern.bias_act`, all given."""
    if b is not None:
        shape = [1] * x.ndim
        shape[dim] = -1
        x = x + b.to(x.dtype).reshape(shape)
    x = activation_funcs[act].func(x, alpha)
    if gain != 1:
        x = x * gain
    if clamp is not None:
        x = x.clamp(-clamp, clamp)
    return x


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
        else:  # elu and selu: s = y + constant up to zero, constant above
            derivative = (v <= 0).to(r.dtype)
    if clamp is not None:
        derivative = torch.where(y.abs() < clamp, derivative, 0.0)
    return derivative.to(ref.dtype)
