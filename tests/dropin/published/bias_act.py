"""bias_act as its description says: one operation after the other."""

import math

import torch
import torch.nn.functional as F

CALLS = []
SQRT2 = math.sqrt(2)


class Row(dict):
    __getattr__ = dict.__getitem__


activation_funcs = {
    "linear": Row(func=lambda x, alpha: x, def_alpha=0, def_gain=1),
    "relu": Row(func=lambda x, alpha: F.relu(x), def_alpha=0, def_gain=SQRT2),
    "lrelu": Row(func=lambda x, alpha: F.leaky_relu(x, alpha), def_alpha=0.2, def_gain=SQRT2),
    "tanh": Row(func=lambda x, alpha: torch.tanh(x), def_alpha=0, def_gain=1),
    "sigmoid": Row(func=lambda x, alpha: torch.sigmoid(x), def_alpha=0, def_gain=1),
    "elu": Row(func=lambda x, alpha: F.elu(x), def_alpha=0, def_gain=1),
    "selu": Row(func=lambda x, alpha: F.selu(x), def_alpha=0, def_gain=1),
    "softplus": Row(func=lambda x, alpha: F.softplus(x), def_alpha=0, def_gain=1),
    "swish": Row(func=lambda x, alpha: torch.sigmoid(x) * x, def_alpha=0, def_gain=SQRT2),
}


def bias_act(x, b=None, dim=1, act="linear", alpha=None, gain=None, clamp=None, impl="cuda"):
    CALLS.append("bias_act")
    spec = activation_funcs[act]
    if b is not None:
        x = x + b.reshape([-1 if i == dim else 1 for i in range(x.ndim)])
    x = spec.func(x, spec.def_alpha if alpha is None else float(alpha))
    x = x * float(spec.def_gain if gain is None else gain)
    return x if clamp is None else x.clamp(-float(clamp), float(clamp))
