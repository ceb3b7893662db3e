"""style-based-gan-pytorch's networks in plain PyTorch, from state dicts under its names: the truth of its tests."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

WIDTHS = {4: 8, 8: 8, 16: 8, 32: 8, 64: 4, 128: 2}
ROW = torch.tensor([1.0, 2.0, 1.0]) / 4
BLUR = (ROW[:, None] * ROW)[None, None]


def blur_state(name, channels):
    return {f"{name}.{leaf}": BLUR.repeat(channels, 1, 1, 1) for leaf in ("weight", "weight_flip")}


def conv_state(name, c_in, c_out, k):
    return {f"{name}.conv.weight_orig": torch.randn(c_out, c_in, k, k), f"{name}.conv.bias": torch.randn(c_out)}


def generator_state(dim=6, n_mlp=2, widths=WIDTHS):
    """A generator's state dict with random numbers."""
    state = {}
    for i in range(n_mlp):
        name = f"style.{2 * i + 1}.linear"
        state |= {f"{name}.weight_orig": torch.randn(dim, dim), f"{name}.bias": torch.randn(dim)}
    for i, size in enumerate(sorted(widths)):
        name, c_out = f"generator.progression.{i}", widths[size]
        c_in = widths[max(size // 2, 4)]
        if i == 0:
            state[f"{name}.conv1.input"] = torch.randn(1, c_out, 4, 4)
        elif size < 128:
            state |= conv_state(f"{name}.conv1.1", c_in, c_out, 3) | blur_state(f"{name}.conv1.2", c_out)
        else:
            state |= {
                f"{name}.conv1.0.weight": torch.randn(c_in, c_out, 3, 3),
                f"{name}.conv1.0.bias": torch.randn(c_out),
            }
            state |= blur_state(f"{name}.conv1.1", c_out)
        state |= conv_state(f"{name}.conv2", c_out, c_out, 3)
        for k in (1, 2):
            state[f"{name}.noise{k}.weight_orig"] = torch.randn(1, c_out, 1, 1)
            state[f"{name}.adain{k}.style.linear.weight_orig"] = torch.randn(2 * c_out, dim)
            state[f"{name}.adain{k}.style.linear.bias"] = torch.randn(2 * c_out)
        state |= conv_state(f"generator.to_rgb.{i}", c_out, 3, 1)
    return state


def discriminator_state(widths=WIDTHS):
    """A discriminator's state dict with random numbers."""
    state, sizes = {}, sorted(widths, reverse=True)
    for i, size in enumerate(sizes):
        name, c_in = f"progression.{i}", widths[size]
        state |= conv_state(f"from_rgb.{i}.0", 3, c_in, 1)
        if size == 4:
            state |= conv_state(f"{name}.conv1.0", c_in + 1, c_in, 3) | conv_state(f"{name}.conv2.0", c_in, c_in, 4)
            continue
        c_out = widths[size // 2]
        state |= conv_state(f"{name}.conv1.0", c_in, c_out, 3) | blur_state(f"{name}.conv2.0", c_out)
        if size >= 128:
            state |= {
                f"{name}.conv2.1.weight": torch.randn(c_out, c_out, 3, 3),
                f"{name}.conv2.1.bias": torch.randn(c_out),
            }
        else:
            state |= conv_state(f"{name}.conv2.1", c_out, c_out, 3)
    return state | {"linear.linear.weight_orig": torch.randn(1, widths[4]), "linear.linear.bias": torch.randn(1)}


def he(weight, fan_in=None):
    return weight * math.sqrt(2 / (fan_in or weight[0].numel()))


def linear(state, name, x):
    return F.linear(x, he(state[f"{name}.weight_orig"]), state[f"{name}.bias"])


def conv(state, name, x, padding=0):
    return F.conv2d(x, he(state[f"{name}.conv.weight_orig"]), state[f"{name}.conv.bias"], padding=padding)


def blur(state, name, x):
    return F.conv2d(x, state[f"{name}.weight"], padding=1, groups=x.shape[1])


def mean_of_shifts(weight):
    weight = F.pad(weight, [1, 1, 1, 1])
    return (weight[:, :, 1:, 1:] + weight[:, :, :-1, 1:] + weight[:, :, 1:, :-1] + weight[:, :, :-1, :-1]) / 4


def generate(state, z, noises, step):
    """The image at 4 * 2^step; `noises` are one map for each resolution."""
    w = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for i in range(len([key for key in state if key.startswith("style.") and key.endswith("bias")])):
        w = F.leaky_relu(linear(state, f"style.{2 * i + 1}.linear", w), 0.2)

    def epilogue(name, k, x, noise):
        strength = state[f"{name}.noise{k}.weight_orig"]
        x = F.leaky_relu(x + strength * math.sqrt(2 / strength.shape[1]) * noise, 0.2)
        gamma, beta = linear(state, f"{name}.adain{k}.style.linear", w)[:, :, None, None].chunk(2, 1)
        return gamma * F.instance_norm(x, eps=1e-5) + beta

    for i in range(step + 1):
        name = f"generator.progression.{i}"
        if i == 0:
            x = state[f"{name}.conv1.input"].repeat(len(z), 1, 1, 1)
        elif f"{name}.conv1.0.weight" in state:
            weight = state[f"{name}.conv1.0.weight"]  # [I, O, 3, 3]
            kernel = mean_of_shifts(he(weight, weight.shape[0] * 9))
            x = F.conv_transpose2d(x, kernel, state[f"{name}.conv1.0.bias"], stride=2, padding=1)
            x = blur(state, f"{name}.conv1.1", x)
        else:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = blur(state, f"{name}.conv1.2", conv(state, f"{name}.conv1.1", x, 1))
        x = epilogue(name, 1, x, noises[i])
        x = epilogue(name, 2, conv(state, f"{name}.conv2", x, 1), noises[i])
    return conv(state, f"generator.to_rgb.{step}", x)


def discriminate(state, img, step):
    """Scores of images of 4 * 2^step pixels."""
    last = len([key for key in state if key.startswith("from_rgb") and key.endswith("bias")]) - 1
    x = F.leaky_relu(conv(state, f"from_rgb.{last - step}.0", img), 0.2)
    for i in range(last - step, last):
        name = f"progression.{i}"
        x = blur(state, f"{name}.conv2.0", F.leaky_relu(conv(state, f"{name}.conv1.0", x, 1), 0.2))
        if f"{name}.conv2.1.weight" in state:
            kernel = mean_of_shifts(he(state[f"{name}.conv2.1.weight"]))
            x = F.conv2d(x, kernel, state[f"{name}.conv2.1.bias"], stride=2, padding=1)
        else:
            x = F.avg_pool2d(conv(state, f"{name}.conv2.1", x, 1), 2)
        x = F.leaky_relu(x, 0.2)
    deviation = (x.var(0, unbiased=False) + 1e-8).sqrt().mean()
    x = torch.cat([x, deviation.expand(len(x), 1, 4, 4)], 1)
    x = F.leaky_relu(conv(state, f"progression.{last}.conv1.0", x, 1), 0.2)
    x = F.leaky_relu(conv(state, f"progression.{last}.conv2.0", x), 0.2).flatten(1)
    return linear(state, "linear.linear", x)
