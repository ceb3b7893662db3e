"""pytorch-pretrained-BigGAN in plain PyTorch, from a state dict under its names: the truth of test_huggingface.py."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

# (in, out) / ch of every block and whether it doubles the size, for 64x64; attention comes before the block POSITION.
LAYERS = tuple((i, o, bool(k)) for i, out in ((16, 16), (16, 8), (8, 4), (4, 2)) for k, o in ((0, i), (1, out)))
POSITION = 4


def sn_state(name, shape, bias=True):
    weight, u = torch.randn(shape), F.normalize(torch.randn(shape[0]), dim=0)
    for _ in range(5):
        v = F.normalize(u @ weight.flatten(1), dim=0)
        u = F.normalize(weight.flatten(1) @ v, dim=0)
    v = F.normalize(v + torch.randn(v.shape) / 4 / len(v) ** 0.5, dim=0)  # of weights some steps ago
    state = {f"{name}.weight_orig": weight, f"{name}.weight_u": u, f"{name}.weight_v": v}
    return state | ({f"{name}.bias": torch.randn(shape[0]) / 4} if bias else {})


def bn_state(name, c, cond=None, n_stats=51):
    state = {f"{name}.running_means": torch.randn(n_stats, c), f"{name}.running_vars": torch.rand(n_stats, c) + 0.5}
    if cond is None:
        return state | {f"{name}.weight": torch.randn(c) / 4, f"{name}.bias": torch.randn(c)}
    return state | sn_state(f"{name}.scale", [c, cond], False) | sn_state(f"{name}.offset", [c, cond], False)


def generator_state(layers=LAYERS, ch=4, z_dim=6, classes=5):
    """A state dict with random numbers; the label's embedding is as long as z."""
    first, cond = layers[0][0] * ch, 2 * z_dim
    state = {"embeddings.weight": torch.randn(z_dim, classes)} | sn_state("generator.gen_z", [16 * first, cond])
    number = 0
    for k, (c_in, c_out, _) in enumerate(layers):
        if k == POSITION:
            name, c = f"generator.layers.{number}", c_in * ch
            state[f"{name}.gamma"] = torch.randn(1)
            for layer, (i, o) in {
                "theta": (c, c // 8),
                "phi": (c, c // 8),
                "g": (c, c // 2),
                "o_conv": (c // 2, c),
            }.items():
                state |= sn_state(f"{name}.snconv1x1_{layer}", [o, i, 1, 1], bias=False)
            number += 1
        name, i, o, h = f"generator.layers.{number}", c_in * ch, c_out * ch, c_in * ch // 4
        for n, shape in enumerate(([h, i, 1, 1], [h, h, 3, 3], [h, h, 3, 3], [o, h, 1, 1])):
            state |= bn_state(f"{name}.bn_{n}", shape[1], cond) | sn_state(f"{name}.conv_{n}", shape)
        number += 1
    last = layers[-1][1] * ch
    return state | bn_state("generator.bn", last) | sn_state("generator.conv_to_rgb", [last, last, 3, 3])


def weight_of(state, name):
    weight = state[f"{name}.weight_orig"]
    return weight / torch.dot(state[f"{name}.weight_u"], torch.mv(weight.flatten(1), state[f"{name}.weight_v"]))


def conv(state, name, x):
    weight = weight_of(state, name)
    return F.conv2d(x, weight, state.get(f"{name}.bias"), padding=weight.shape[2] // 2)


def statistics(state, name, truncation):
    means, variances = state[f"{name}.running_means"], state[f"{name}.running_vars"]
    coef, start = math.modf(truncation / (1.0 / (len(means) - 1)))
    start = int(start)
    if coef == 0.0:
        return means[start], variances[start]
    return tuple(x[start] * coef + x[start + 1] * (1 - coef) for x in (means, variances))


def bn(state, name, x, truncation, cond):
    mean, variance = (value.view(1, -1, 1, 1) for value in statistics(state, name, truncation))
    scale, offset = 1 + cond @ weight_of(state, f"{name}.scale").T, cond @ weight_of(state, f"{name}.offset").T
    return (x - mean) / (variance + 1e-4).sqrt() * scale[:, :, None, None] + offset[:, :, None, None]


def attend(state, name, x):
    n, c, h, w = x.shape
    theta = conv(state, f"{name}.snconv1x1_theta", x).view(n, c // 8, h * w)
    phi = F.max_pool2d(conv(state, f"{name}.snconv1x1_phi", x), 2).view(n, c // 8, h * w // 4)
    attention = torch.bmm(theta.permute(0, 2, 1), phi).softmax(-1)
    g = F.max_pool2d(conv(state, f"{name}.snconv1x1_g", x), 2).view(n, c // 2, h * w // 4)
    out = torch.bmm(g, attention.permute(0, 2, 1)).view(n, c // 2, h, w)
    return x + state[f"{name}.gamma"] * conv(state, f"{name}.snconv1x1_o_conv", out)


def generate(state, z, c, truncation, layers=LAYERS):
    """Images for z [N, z_dim] and one-hot labels."""
    cond = torch.cat([z, c @ state["embeddings.weight"].T], 1)
    x = F.linear(cond, weight_of(state, "generator.gen_z"), state["generator.gen_z.bias"])
    x = x.view(len(z), 4, 4, -1).permute(0, 3, 1, 2)
    number = 0
    for k, (_, _, up) in enumerate(layers):
        if k == POSITION:
            x = attend(state, f"generator.layers.{number}", x)
            number += 1
        name, x0 = f"generator.layers.{number}", x
        for n in range(4):
            x = bn(state, f"{name}.bn_{n}", x, truncation, cond).relu()
            x = conv(state, f"{name}.conv_{n}", F.interpolate(x, scale_factor=2) if up and n == 1 else x)
        if x.shape[1] != x0.shape[1]:
            x0 = x0[:, : x0.shape[1] // 2]
        x = x + (F.interpolate(x0, scale_factor=2) if up else x0)
        number += 1
    norm = [*statistics(state, "generator.bn", truncation), state["generator.bn.weight"], state["generator.bn.bias"]]
    x = conv(state, "generator.conv_to_rgb", F.batch_norm(x, *norm, eps=1e-4).relu())
    return x[:, :3].tanh()
