"""pytorch_GAN_zoo's ProGAN in plain PyTorch, from state dicts under its names: the truth of test_gan_zoo.py."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F

WIDTHS = [12, 12, 6]  # at 4, 8 and 16


def layer_state(name, c_in, c_out, k=None):
    shape = [c_out, c_in] if k is None else [c_out, c_in, k, k]
    return {f"{name}.module.weight": torch.randn(shape), f"{name}.module.bias": torch.randn(c_out)}


def generator_state(z_dim=10, widths=WIDTHS):
    """A generator's state dict with random numbers."""
    state = layer_state("formatLayer", z_dim, 16 * widths[0]) | layer_state("groupScale0.0", widths[0], widths[0], 3)
    for s, (c_in, c_out) in enumerate(pairwise(widths)):
        state |= layer_state(f"scaleLayers.{s}.0", c_in, c_out, 3) | layer_state(f"scaleLayers.{s}.1", c_out, c_out, 3)
    for k, width in enumerate(widths):
        state |= layer_state(f"toRGBLayers.{k}", width, 3, 1)
    return state


def discriminator_state(widths=WIDTHS):
    """A discriminator's state dict with random numbers."""
    c = widths[0]
    state = layer_state("groupScaleZero.0", c + 1, c, 3) | layer_state("groupScaleZero.1", c * 16, c)
    state |= layer_state("decisionLayer", c, 1)
    for s, (c_out, c_in) in enumerate(pairwise(widths)):
        state |= layer_state(f"scaleLayers.{s}.0", c_in, c_in, 3) | layer_state(f"scaleLayers.{s}.1", c_in, c_out, 3)
    for k, width in enumerate(widths):
        state |= layer_state(f"fromRGBLayers.{k}", 3, width, 1)
    return state


def layer(state, name, x):
    """The weighted sum and its bias, all of it times He's factor."""
    weight, bias = state[f"{name}.module.weight"], state[f"{name}.module.bias"]
    y = F.linear(x, weight, bias) if weight.ndim == 2 else F.conv2d(x, weight, bias, padding=weight.shape[2] // 2)
    return y * math.sqrt(2 / weight[0].numel())


def pixel_norm(x):
    return x * ((x * x).mean(1, keepdim=True) + 1e-8).rsqrt()


def generate(state, z):
    scales = len([key for key in state if key.startswith("toRGBLayers") and key.endswith("bias")]) - 1
    x = F.leaky_relu(layer(state, "formatLayer", pixel_norm(z)), 0.2)
    x = pixel_norm(x.view(len(z), -1, 4, 4))
    x = pixel_norm(F.leaky_relu(layer(state, "groupScale0.0", x), 0.2))
    for s in range(scales):
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        for k in (0, 1):
            x = pixel_norm(F.leaky_relu(layer(state, f"scaleLayers.{s}.{k}", x), 0.2))
    return layer(state, f"toRGBLayers.{scales}", x)


def standard_deviation(x):
    """The mean of the standard deviations over each four neighbours of the batch; over all if they are no fours."""
    group = 4 if len(x) % 4 == 0 else len(x)
    groups = x.view(len(x) // group, group, -1)
    mean = (groups.var(1) + 1e-8).sqrt().mean(1)  # [N / group]
    return mean.repeat_interleave(group)[:, None, None, None].expand(-1, 1, 4, 4)


def discriminate(state, img):
    scales = len([key for key in state if key.startswith("fromRGBLayers") and key.endswith("bias")]) - 1
    x = F.leaky_relu(layer(state, f"fromRGBLayers.{scales}", img), 0.2)
    for s in reversed(range(scales)):
        for k in (0, 1):
            x = F.leaky_relu(layer(state, f"scaleLayers.{s}.{k}", x), 0.2)
        x = F.avg_pool2d(x, 2)
    x = torch.cat([x, standard_deviation(x)], 1)
    x = F.leaky_relu(layer(state, "groupScaleZero.0", x), 0.2)
    x = F.leaky_relu(layer(state, "groupScaleZero.1", x.flatten(1)), 0.2)
    return layer(state, "decisionLayer", x)
