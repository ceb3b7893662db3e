"""StyleGAN2's published forward passes in plain PyTorch, from a state dict under the PyTorch code's names.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, and "Training Generative Adversarial
Networks with Limited Data", 2020. G with output skips; D residual, without skips, or with input skips.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8


def unit(x):
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def lrelu(x, gain=1.0, clamp=None):
    x = F.leaky_relu(x, 0.2) * math.sqrt(2) * gain
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def dense(state, name, x, lr_multiplier=1.0):
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return x @ (weight * lr_multiplier / math.sqrt(weight.shape[1])).T + bias * lr_multiplier


def zero_stuffed(x):
    n, c, h, w = x.shape
    out = x.new_zeros(n, c, 2 * h, 2 * w)
    out[:, :, ::2, ::2] = x
    return out


def fir(x, before, after, gain=1.0):
    """Pads and filters; the taps are symmetric."""
    c = x.shape[1]
    f = (TAPS[:, None] * TAPS[None, :] * gain).expand(c, 1, 4, 4)
    return F.conv2d(F.pad(x, [before, after, before, after]), f, groups=c)


def up_image(img):
    return fir(zero_stuffed(img), 2, 1, gain=4)


def down_image(img):
    return fir(img, 1, 1)[:, :, ::2, ::2]


def mapping(state, z, c, layers, prefix="mapping."):
    parts = [] if z is None else [unit(z)]
    if f"{prefix}embed.weight" in state:
        parts.append(unit(dense(state, f"{prefix}embed", c)))
    x = torch.cat(parts, 1)
    for i in range(layers):
        x = lrelu(dense(state, f"{prefix}fc{i}", x, 0.01))
    return x


def modulated(state, name, x, w, correlate):
    """Modulation, the convolution `correlate(x, kernel)`, demodulation."""
    styles = dense(state, f"{name}.affine", w)
    weight = state[f"{name}.weight"]
    d = ((weight[None] * styles[:, None, :, None, None]).square().sum([2, 3, 4]) + 1e-8).rsqrt()
    return correlate(x * styles[:, :, None, None], weight) * d[:, :, None, None]


def same(x, weight):
    return F.conv2d(x, weight, padding=1)


def up_from_turned(x, weight):
    """The kernel is stored turned by 180 degrees, as for a transposed convolution."""
    return up_convolution(x, weight.flip(2, 3))


def up_convolution(x, weight):
    return F.conv2d(fir(zero_stuffed(x), 3, 2, gain=4), weight)


def layer(state, name, x, w, correlate, clamp):
    x = modulated(state, name, x, w, correlate)
    x = x + state[f"{name}.noise_const"] * state[f"{name}.noise_strength"]
    return lrelu(x + state[f"{name}.bias"][:, None, None], clamp=clamp)


def to_rgb(state, name, x, w, clamp):
    weight = state[f"{name}.weight"]
    styles = dense(state, f"{name}.affine", w) / math.sqrt(weight.shape[1])
    img = F.conv2d(x * styles[:, :, None, None], weight) + state[f"{name}.bias"][:, None, None]
    return img if clamp is None else img.clamp(-clamp, clamp)


def generator(state, z, c, resolution, layers, psi=1.0, clamp=None, up=up_from_turned):
    """Images with the constant noise; `up` says how an up-kernel is stored."""
    w = mapping(state, z, c, layers)
    w = state["mapping.w_avg"].lerp(w, psi)
    x = state["synthesis.b4.const"].expand(len(z), -1, -1, -1)
    img = 0
    res = 4
    while res <= resolution:
        block = f"synthesis.b{res}"
        if res > 4:
            x = layer(state, f"{block}.conv0", x, w, up, clamp)
            img = up_image(img)
        x = layer(state, f"{block}.conv1", x, w, same, clamp)
        img = img + to_rgb(state, f"{block}.torgb", x, w, clamp)
        res *= 2
    return img


def kernel(state, name):
    weight = state[f"{name}.weight"]
    return weight / math.sqrt(weight[0].numel())


def convolved(state, name, x, padding, gain=1.0, clamp=None):
    x = F.conv2d(x, kernel(state, name), padding=padding) + state[f"{name}.bias"][:, None, None]
    return lrelu(x, gain, clamp)


def discriminator(state, img, c, resolution, architecture="resnet", group=4, clamp=None):
    x = 0
    gain = math.sqrt(0.5) if architecture == "resnet" else 1.0
    res = resolution
    while res > 4:
        if res == resolution or architecture == "skip":
            x = x + convolved(state, f"b{res}.fromrgb", img, 0, clamp=clamp)
            img = down_image(img)
        old = x
        x = convolved(state, f"b{res}.conv0", x, 1, clamp=clamp)
        x = F.conv2d(fir(x, 2, 2), kernel(state, f"b{res}.conv1"), stride=2)
        x = lrelu(x + state[f"b{res}.conv1.bias"][:, None, None], gain, clamp)
        if architecture == "resnet":
            x = x + F.conv2d(down_image(old), kernel(state, f"b{res}.skip")) * gain
        res //= 2
    if architecture == "skip":
        x = x + convolved(state, "b4.fromrgb", img, 0)
    n = len(x)
    group = min(group, n)
    y = x.reshape(group, n // group, *x.shape[1:])
    y = (y - y.mean(0)).square().mean(0).add(1e-8).sqrt().mean([1, 2, 3])  # one number for each group
    x = torch.cat([x, y.repeat(group)[:, None, None, None].expand(-1, 1, 4, 4)], 1)
    x = convolved(state, "b4.conv", x, 1, clamp=clamp)
    x = lrelu(dense(state, "b4.fc", x.flatten(1)))
    x = dense(state, "b4.out", x)
    if "mapping.embed.weight" in state:
        cmap = mapping(state, None, c, 8)
        x = (x * cmap).sum(1, keepdim=True) / math.sqrt(cmap.shape[1])
    return x


def shapes(resolution, layers, c_dim=0, z=6, w=10, base=64, most=12, img_channels=3, architecture="resnet"):
    """The shapes of every tensor of (G, D), by its published name."""

    def width(res):
        return min(base // res, most)

    features = w if c_dim else 0
    G = {"mapping.w_avg": [w]}
    if c_dim:
        G |= {"mapping.embed.weight": [w, c_dim], "mapping.embed.bias": [w]}
    for i in range(layers):
        G |= {f"mapping.fc{i}.weight": [w, z + features if i == 0 else w], f"mapping.fc{i}.bias": [w]}
    G["synthesis.b4.const"] = [width(4), 4, 4]
    D = {}
    res = 4
    while res <= resolution:
        here, before = width(res), width(max(res // 2, 4))
        G[f"synthesis.b{res}.resample_filter"] = [4, 4]
        for name, width_in in (("conv0", before), ("conv1", here)):
            if name == "conv0" and res == 4:
                continue
            conv = f"synthesis.b{res}.{name}"
            G |= {f"{conv}.weight": [here, width_in, 3, 3], f"{conv}.bias": [here], f"{conv}.noise_strength": []}
            G |= {f"{conv}.noise_const": [res, res], f"{conv}.resample_filter": [4, 4]}
            G |= {f"{conv}.affine.weight": [width_in, w], f"{conv}.affine.bias": [width_in]}
        rgb = f"synthesis.b{res}.torgb"
        G |= {f"{rgb}.weight": [img_channels, here, 1, 1], f"{rgb}.bias": [img_channels]}
        G |= {f"{rgb}.affine.weight": [here, w], f"{rgb}.affine.bias": [here]}
        if res == resolution or architecture == "skip":
            D |= conv_shapes(f"b{res}.fromrgb", here, img_channels, 1)
        if res > 4:
            D[f"b{res}.resample_filter"] = [4, 4]
            D |= conv_shapes(f"b{res}.conv0", here, here, 3) | conv_shapes(f"b{res}.conv1", before, here, 3)
            if architecture == "resnet":
                D |= {f"b{res}.skip.weight": [before, here, 1, 1], f"b{res}.skip.resample_filter": [4, 4]}
        res *= 2
    four = width(4)
    out = four if c_dim else 1
    D |= conv_shapes("b4.conv", four, four + 1, 3)
    D |= {"b4.fc.weight": [four, 16 * four], "b4.fc.bias": [four], "b4.out.weight": [out, four], "b4.out.bias": [out]}
    if c_dim:
        D |= {"mapping.embed.weight": [four, c_dim], "mapping.embed.bias": [four]}
        for i in range(8):
            D |= {f"mapping.fc{i}.weight": [four, four], f"mapping.fc{i}.bias": [four]}
    return G, D


def conv_shapes(name, o, i, k):
    return {f"{name}.weight": [o, i, k, k], f"{name}.bias": [o], f"{name}.resample_filter": [4, 4]}


def random_state(shapes, seed):
    """Numbers for shapes: noise, but the constant filter, and modulations around 1."""
    random = torch.Generator().manual_seed(seed)
    state = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    for name in state:
        if name.endswith("resample_filter"):
            state[name] = TAPS[:, None] * TAPS[None, :]
        if name.endswith("affine.bias"):
            state[name] += 1
        if "mapping.fc" in name:
            state[name] *= 100
    return state
