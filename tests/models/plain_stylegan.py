"""StyleGAN in plain PyTorch, function by function as published, from a state dict: the truth of test_stylegan.py.

Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019. `fused(resolution)`
says where resampling and convolution are one convolution with a 4x4 kernel.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def dense(state, name, x, gain, lr_multiplier=1.0):
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return x @ (weight * gain * lr_multiplier / math.sqrt(weight.shape[1])).T + bias * lr_multiplier


def kernel(state, name, gain=2**0.5):
    weight = state[f"{name}.weight"]
    return weight * gain / math.sqrt(weight[0].numel())


def lrelu(x, bias=0.0):
    return torch.maximum(x + bias, 0.2 * (x + bias))


def per_channel(bias):
    return bias[None, :, None, None]


def box_up(x):
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def box_down(x):
    return (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4


def four_by_four(w):
    """The sum of a 3x3 kernel's four shifts, which resamples on the way."""
    w = F.pad(w, [1, 1, 1, 1])
    return w[:, :, 1:, 1:] + w[:, :, :-1, 1:] + w[:, :, 1:, :-1] + w[:, :, :-1, :-1]


def up_convolution(x, w, fused):
    if fused:
        return F.conv_transpose2d(x, four_by_four(w).transpose(0, 1), stride=2, padding=1)
    return F.conv2d(box_up(x), w, padding=1)


def down_convolution(x, w, fused):
    if fused:
        return F.conv2d(x, four_by_four(w) / 4, stride=2, padding=1)
    return box_down(F.conv2d(x, w, padding=1))


def blur(x):
    row = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype) / 4
    return F.conv2d(x, (row[:, None] * row).expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])


def mapping(state, z, c, num_layers=3):
    x = z if c is None else torch.cat([z, c @ state["mapping.embed.weight"].T], dim=1)
    x = x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for i in range(num_layers):
        x = lrelu(dense(state, f"mapping.fc{i}", x, math.sqrt(2), 0.01))
    return x


def epilogue(state, name, x, w):
    x = x + per_channel(state[f"{name}.noise_strength"]) * state[f"{name}.noise_const"]
    x = lrelu(x, per_channel(state[f"{name}.bias"]))
    x = x - x.mean([2, 3], keepdim=True)
    x = x / (x.square().mean([2, 3], keepdim=True) + 1e-8).sqrt()
    style = dense(state, f"{name}.affine", w, gain=1).reshape(len(x), 2, -1, 1, 1)
    return x * (style[:, 0] + 1) + style[:, 1]


def to_rgb(state, block, x):
    return F.conv2d(x, kernel(state, f"{block}.torgb", gain=1), state[f"{block}.torgb.bias"])


def synthesis(state, ws, resolution, fading, fused, alpha=0.3):
    """The image of every resolution, each blended with the one below by how far it has come in."""
    state = {name.removeprefix("synthesis."): value for name, value in state.items()}
    img = None
    for i, res in enumerate(2**k for k in range(2, resolution.bit_length())):
        block = f"b{res}"
        if res == 4:
            x = state["b4.const"][None].repeat(len(ws), 1, 1, 1)
        else:
            x = blur(up_convolution(x, kernel(state, f"{block}.conv0"), fused(res)))
        x = epilogue(state, f"{block}.epilogue0", x, ws[:, 2 * i])
        x = F.conv2d(x, kernel(state, f"{block}.conv1"), padding=1)
        x = epilogue(state, f"{block}.epilogue1", x, ws[:, 2 * i + 1])
        below, img = img, to_rgb(state, block, x)
        if fading and res == resolution:
            img = alpha * img + (1 - alpha) * box_up(below)
    return img


def from_rgb(state, block, img):
    return lrelu(F.conv2d(img, kernel(state, f"{block}.fromrgb")), per_channel(state[f"{block}.fromrgb.bias"]))


def discriminate(state, img, c, resolution, fading, fused, alpha=0.3):
    x = from_rgb(state, f"b{resolution}", img)
    for res in (2**k for k in range(resolution.bit_length() - 1, 2, -1)):
        block = f"b{res}"
        x = F.conv2d(x, kernel(state, f"{block}.conv0"), padding=1)
        x = blur(lrelu(x, per_channel(state[f"{block}.conv0.bias"])))
        x = down_convolution(x, kernel(state, f"{block}.conv1"), fused(res))
        x = lrelu(x, per_channel(state[f"{block}.conv1.bias"]))
        if fading and res == resolution:
            x = alpha * x + (1 - alpha) * from_rgb(state, f"b{res // 2}", box_down(img))
    groups = x.reshape(min(4, len(x)), -1, *x.shape[1:])
    deviation = (groups.var(0, correction=0) + 1e-8).sqrt().mean([1, 2, 3])  # [N / group]
    deviation = deviation.repeat(len(groups))[:, None, None, None].expand(-1, 1, *x.shape[2:])
    x = F.conv2d(torch.cat([x, deviation], dim=1), kernel(state, "b4.conv"), padding=1)
    x = lrelu(x, per_channel(state["b4.conv.bias"]))
    x = lrelu(dense(state, "b4.fc", x.flatten(1), math.sqrt(2)))
    x = dense(state, "b4.out", x, 1)
    return x if c is None else (x * c).sum(1, keepdim=True)
