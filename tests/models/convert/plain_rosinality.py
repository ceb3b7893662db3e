"""stylegan2-pytorch's networks in plain PyTorch, from state dicts under its names: the truth of test_rosinality.py."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

WIDTHS = {4: 12, 8: 12, 16: 6}
TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
FIR = TAPS[:, None] * TAPS


def generator_state(w_dim=10, n_mlp=2, widths=WIDTHS):
    """A generator's state dict with random numbers."""
    state = {"input.input": torch.randn(1, widths[4], 4, 4)}
    for i in range(1, n_mlp + 1):
        state |= {f"style.{i}.weight": torch.randn(w_dim, w_dim) * 100, f"style.{i}.bias": torch.randn(w_dim) * 10}

    def layer(name, c_in, c_out, size, up=False):
        state[f"{name}.conv.weight"] = torch.randn(1, c_out, c_in, 3, 3)
        state[f"{name}.noise.weight"] = torch.randn(1)
        state[f"{name}.activate.bias"] = torch.randn(c_out)
        modulation(f"{name}.conv", c_in)
        state[f"noises.noise_{layer.count}"] = torch.randn(1, 1, size, size)
        layer.count += 1
        if up:
            state[f"{name}.conv.blur.kernel"] = FIR * 4

    def modulation(name, c_in):
        state[f"{name}.modulation.weight"] = torch.randn(c_in, w_dim)
        state[f"{name}.modulation.bias"] = 1 + torch.randn(c_in)

    def to_rgb(name, c_in):
        state[f"{name}.conv.weight"] = torch.randn(1, 3, c_in, 1, 1)
        state[f"{name}.bias"] = torch.randn(1, 3, 1, 1)
        modulation(f"{name}.conv", c_in)

    layer.count = 0
    layer("conv1", widths[4], widths[4], 4)
    to_rgb("to_rgb1", widths[4])
    for j, size in enumerate(sorted(widths)[1:]):
        layer(f"convs.{2 * j}", widths[size // 2], widths[size], size, up=True)
        layer(f"convs.{2 * j + 1}", widths[size], widths[size], size)
        to_rgb(f"to_rgbs.{j}", widths[size])
        state[f"to_rgbs.{j}.upsample.kernel"] = FIR * 4
    return state


def discriminator_state(widths=WIDTHS):
    """A discriminator's state dict with random numbers."""
    sizes = sorted(widths, reverse=True)
    state = {
        "convs.0.0.weight": torch.randn(widths[sizes[0]], 3, 1, 1),
        "convs.0.1.bias": torch.randn(widths[sizes[0]]),
    }
    for k, size in enumerate(sizes[:-1], start=1):
        c_in, c_out = widths[size], widths[size // 2]
        state |= {
            f"convs.{k}.conv1.0.weight": torch.randn(c_in, c_in, 3, 3),
            f"convs.{k}.conv1.1.bias": torch.randn(c_in),
        }
        state |= {f"convs.{k}.conv2.0.kernel": FIR.clone(), f"convs.{k}.conv2.1.weight": torch.randn(c_out, c_in, 3, 3)}
        state |= {f"convs.{k}.conv2.2.bias": torch.randn(c_out), f"convs.{k}.skip.0.kernel": FIR.clone()}
        state |= {f"convs.{k}.skip.1.weight": torch.randn(c_out, c_in, 1, 1)}
    c = widths[4]
    state |= {"final_conv.0.weight": torch.randn(c, c + 1, 3, 3), "final_conv.1.bias": torch.randn(c)}
    state |= {"final_linear.0.weight": torch.randn(c, c * 16), "final_linear.0.bias": torch.randn(c)}
    return state | {"final_linear.1.weight": torch.randn(1, c), "final_linear.1.bias": torch.randn(1)}


def fir(x, kernel, pad):
    """Convolution of every channel with a filter; `pad` pixels of zeros before and after."""
    x = F.pad(x, [pad[0], pad[1], pad[0], pad[1]])
    return F.conv2d(x, kernel.flip([0, 1]).expand(x.shape[1], 1, -1, -1), groups=x.shape[1])


def fused_lrelu(x, bias):
    bias = bias.reshape(1, -1, *[1] * (x.ndim - 2))
    return F.leaky_relu(x + bias, 0.2) * math.sqrt(2)


def modulated(state, name, x, w, demodulate=True, up=False):
    weight = state[f"{name}.weight"]  # [1, O, I, k, k]
    i, k = weight.shape[2:4]
    style = w @ (state[f"{name}.modulation.weight"] / math.sqrt(w.shape[1])).T + state[f"{name}.modulation.bias"]
    weight = weight / math.sqrt(i * k * k) * style[:, None, :, None, None]
    if demodulate:
        weight = weight / (weight.square().sum([2, 3, 4], keepdim=True) + 1e-8).sqrt()
    if not up:
        return torch.cat([F.conv2d(one[None], kernel, padding=k // 2) for one, kernel in zip(x, weight)])
    y = [F.conv_transpose2d(one[None], kernel.transpose(0, 1), stride=2) for one, kernel in zip(x, weight)]
    return fir(torch.cat(y), state[f"{name}.blur.kernel"], (1, 1))


def generate(state, z):
    w = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for i in range(1, 1 + len([key for key in state if key.startswith("style.") and key.endswith("weight")])):
        weight = state[f"style.{i}.weight"] * 0.01 / math.sqrt(w.shape[1])
        w = fused_lrelu(w @ weight.T, state[f"style.{i}.bias"] * 0.01)

    def layer(name, number, x, up=False):
        x = modulated(state, f"{name}.conv", x, w, up=up)
        x = x + state[f"{name}.noise.weight"] * state[f"noises.noise_{number}"]
        return fused_lrelu(x, state[f"{name}.activate.bias"])

    def to_rgb(name, x, skip=None):
        out = modulated(state, f"{name}.conv", x, w, demodulate=False) + state[f"{name}.bias"]
        if skip is None:
            return out
        stuffed = torch.zeros(*skip.shape[:2], 2 * skip.shape[2], 2 * skip.shape[3])
        stuffed[:, :, ::2, ::2] = skip
        return out + fir(stuffed, state[f"{name}.upsample.kernel"], (2, 1))

    x = layer("conv1", 0, state["input.input"].repeat(len(z), 1, 1, 1))
    img = to_rgb("to_rgb1", x)
    for j in range(len([key for key in state if key.endswith("upsample.kernel")])):
        x = layer(f"convs.{2 * j}", 2 * j + 1, x, up=True)
        x = layer(f"convs.{2 * j + 1}", 2 * j + 2, x)
        img = to_rgb(f"to_rgbs.{j}", x, img)
    return img


def discriminate(state, img):
    def conv(name, x, stride=1, padding=0):
        weight = state[name]
        return F.conv2d(x, weight / math.sqrt(weight[0].numel()), stride=stride, padding=padding)

    x = fused_lrelu(conv("convs.0.0.weight", img), state["convs.0.1.bias"])
    for k in range(1, 1 + len([key for key in state if key.endswith("skip.0.kernel")])):
        name = f"convs.{k}"
        y = fused_lrelu(conv(f"{name}.conv1.0.weight", x, padding=1), state[f"{name}.conv1.1.bias"])
        y = conv(f"{name}.conv2.1.weight", fir(y, state[f"{name}.conv2.0.kernel"], (2, 2)), stride=2)
        y = fused_lrelu(y, state[f"{name}.conv2.2.bias"])
        x = (y + conv(f"{name}.skip.1.weight", fir(x, state[f"{name}.skip.0.kernel"], (1, 1)), stride=2)) / math.sqrt(2)
    group = min(4, len(x))
    deviation = (x.reshape(group, -1, *x.shape[1:]).var(0, correction=0) + 1e-8).sqrt().mean([1, 2, 3])
    deviation = deviation.repeat(group)[:, None, None, None].expand(-1, 1, 4, 4)
    x = conv("final_conv.0.weight", torch.cat([x, deviation], 1), padding=1)
    x = fused_lrelu(x, state["final_conv.1.bias"]).flatten(1)
    weight = state["final_linear.0.weight"]
    x = fused_lrelu(x @ (weight / math.sqrt(weight.shape[1])).T, state["final_linear.0.bias"])
    weight = state["final_linear.1.weight"]
    return x @ (weight / math.sqrt(weight.shape[1])).T + state["final_linear.1.bias"]
