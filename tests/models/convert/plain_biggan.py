"""BigGAN-PyTorch's networks in plain PyTorch, from state dicts under its names: the truth of test_biggan_pytorch.py."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F

RES64 = (16, 16, 8, 4, 2)  # channels / ch of a generator for 64x64, between its blocks
RES32 = (4, 4, 4, 4)


def sn_state(name, shape, bias=True):
    """A spectrally normalised layer's tensors with random numbers; u is near no singular vector."""
    state = {
        f"{name}.weight": torch.randn(shape) / 4,
        f"{name}.u0": F.normalize(torch.randn(1, shape[0])),
        f"{name}.sv0": torch.ones(1),
    }
    return state | ({f"{name}.bias": torch.randn(shape[0])} if bias else {})


def statistics(name, c):
    return {f"{name}.stored_mean": torch.randn(c), f"{name}.stored_var": torch.rand(c) + 0.5}


def norm_state(name, c, cond):
    gain = sn_state(f"{name}.gain", [c, cond], bias=False)
    return gain | sn_state(f"{name}.bias", [c, cond], bias=False) | statistics(name, c)


def attention_state(name, c):
    state = {f"{name}.gamma": torch.randn([])}
    for layer, shape in (("theta", [c // 8, c]), ("phi", [c // 8, c]), ("g", [c // 2, c]), ("o", [c, c // 2])):
        state |= sn_state(f"{name}.{layer}", [*shape, 1, 1], bias=False)
    return state


def generator_state(units=RES64, ch=4, classes=5, chunk=4, shared=6, attention=(1,), deep=False):
    """A generator's state dict; `attention` are the stages that end with it."""
    z = chunk  # all of z where it is not cut into chunks
    cond = shared + chunk
    first = units[0] * ch
    state = {"shared.weight": torch.randn(classes, shared)}
    state |= sn_state("linear", [first * 16, z + shared if deep else chunk])
    for k, (c_in, c_out) in enumerate(pairwise(units)):
        c_in, c_out = c_in * ch, c_out * ch
        if deep:
            for i, out in ((2 * k, c_in), (2 * k + 1, c_out)):
                name, h = f"blocks.{i}.0", c_in // 4
                for n, shape in enumerate(([h, c_in, 1, 1], [h, h, 3, 3], [h, h, 3, 3], [out, h, 1, 1]), start=1):
                    state |= norm_state(f"{name}.bn{n}", shape[1], cond) | sn_state(f"{name}.conv{n}", shape)
        else:
            name = f"blocks.{k}.0"
            state |= norm_state(f"{name}.bn1", c_in, cond) | norm_state(f"{name}.bn2", c_out, cond)
            state |= sn_state(f"{name}.conv1", [c_out, c_in, 3, 3]) | sn_state(f"{name}.conv2", [c_out, c_out, 3, 3])
            state |= sn_state(f"{name}.conv_sc", [c_out, c_in, 1, 1])
        if k in attention:
            state |= attention_state(f"blocks.{2 * k + 1 if deep else k}.1", c_out)
    last = units[-1] * ch
    state |= {"output_layer.0.gain": torch.randn(last), "output_layer.0.bias": torch.randn(last)}
    return state | statistics("output_layer.0", last) | sn_state("output_layer.2", [3, last, 3, 3])


def discriminator_state(units=(1, 2, 4, 8, 16), ch=4, classes=5, attention=(1,), deep=False):
    """A discriminator's state dict; at 64x64 by default."""
    widths = [ch * unit for unit in units]
    state = sn_state("input_conv", [widths[0], 3, 3, 3]) if deep else {}
    pairs = pairwise(widths) if deep else zip([3, *widths], widths, strict=False)
    for k, (c_in, c_out) in enumerate(pairs):
        if deep:
            h = c_out // 4
            for d, start in ((0, c_in), (1, c_out)):
                for n, shape in enumerate(([h, start, 1, 1], [h, h, 3, 3], [h, h, 3, 3], [c_out, h, 1, 1]), start=1):
                    state |= sn_state(f"blocks.{k}.{d}.conv{n}", shape)
            if c_in != c_out:
                state |= sn_state(f"blocks.{k}.0.conv_sc", [c_out - c_in, c_in, 1, 1])
        else:
            name = f"blocks.{k}.0"
            state |= sn_state(f"{name}.conv1", [c_out, c_in, 3, 3]) | sn_state(f"{name}.conv2", [c_out, c_out, 3, 3])
            if k < (2 if len(units) == 4 else len(units) - 1) or c_in != c_out:
                state |= sn_state(f"{name}.conv_sc", [c_out, c_in, 1, 1])
        if k in attention:
            state |= attention_state(f"blocks.{k}.{2 if deep else 1}", c_out)
    return state | sn_state("linear", [1, widths[-1]]) | sn_state("embed", [classes, widths[-1]], bias=False)


def normalised(state, name):
    """One half of a power iteration from the stored u."""
    weight = state[f"{name}.weight"]
    matrix = weight.flatten(1)
    v = F.normalize(state[f"{name}.u0"] @ matrix, eps=1e-6)
    u = F.normalize(v @ matrix.T, eps=1e-6)
    return weight / (v @ matrix.T @ u.T).squeeze()


def conv(state, name, x):
    weight = normalised(state, name)
    return F.conv2d(x, weight, state.get(f"{name}.bias"), padding=weight.shape[2] // 2)


def linear(state, name, x):
    return F.linear(x, normalised(state, name), state.get(f"{name}.bias"))


def ccbn(state, name, x, s):
    gain, bias = 1 + linear(state, f"{name}.gain", s), linear(state, f"{name}.bias", s)
    x = F.batch_norm(x, state[f"{name}.stored_mean"], state[f"{name}.stored_var"], eps=1e-5)
    return x * gain[:, :, None, None] + bias[:, :, None, None]


def attend(state, name, x):
    n, c, h, w = x.shape
    theta = conv(state, f"{name}.theta", x).view(n, c // 8, h * w)
    phi = F.max_pool2d(conv(state, f"{name}.phi", x), 2).view(n, c // 8, h * w // 4)
    g = F.max_pool2d(conv(state, f"{name}.g", x), 2).view(n, c // 2, h * w // 4)
    beta = (theta.transpose(1, 2) @ phi).softmax(-1)  # [N, HW, HW / 4]
    o = conv(state, f"{name}.o", (g @ beta.transpose(1, 2)).view(n, c // 2, h, w))
    return state[f"{name}.gamma"] * o + x


def twice(x):
    return F.interpolate(x, scale_factor=2)


def generate(state, z, labels, deep=False):
    """Images for z [N, z_dim] and class numbers [N]."""
    y = state["shared.weight"][labels]
    blocks = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    if deep:
        first = torch.cat([y, z], 1)
        conditions = [first] * blocks
    else:
        first, *chunks = z.chunk(blocks + 1, 1)
        conditions = [torch.cat([y, chunk], 1) for chunk in chunks]
    x = linear(state, "linear", first)
    x = x.view(len(z), -1, 4, 4)
    for i, s in enumerate(conditions):
        name = f"blocks.{i}.0"
        if deep:
            h = x
            for n in (1, 2, 3, 4):
                h = ccbn(state, f"{name}.bn{n}", h, s).relu()
                h = conv(state, f"{name}.conv{n}", twice(h) if n == 2 and i % 2 else h)
            x = x[:, : h.shape[1]]
            x = (twice(x) if i % 2 else x) + h
        else:
            h = conv(state, f"{name}.conv1", twice(ccbn(state, f"{name}.bn1", x, s).relu()))
            h = conv(state, f"{name}.conv2", ccbn(state, f"{name}.bn2", h, s).relu())
            x = h + conv(state, f"{name}.conv_sc", twice(x))
        if f"blocks.{i}.1.gamma" in state:
            x = attend(state, f"blocks.{i}.1", x)
    out = "output_layer.0"
    x = F.batch_norm(
        x, state[f"{out}.stored_mean"], state[f"{out}.stored_var"], state[f"{out}.gain"], state[f"{out}.bias"]
    )
    return conv(state, "output_layer.2", x.relu()).tanh()


def discriminate(state, img, labels, deep=False):
    """Scores of images [N, 3, H, W] with class numbers [N]."""
    x = conv(state, "input_conv", img) if deep else img
    for k in range(len({key.split(".")[1] for key in state if key.startswith("blocks.")})):
        if deep:
            for d in (0, 1):
                x = deep_block(state, f"blocks.{k}.{d}", x, down=d == 0)
        else:
            x = block(state, f"blocks.{k}.0", x, first=k == 0)
        for d in (1, 2):
            if f"blocks.{k}.{d}.gamma" in state:
                x = attend(state, f"blocks.{k}.{d}", x)
    h = x.relu().sum([2, 3])
    return linear(state, "linear", h) + (normalised(state, "embed")[labels] * h).sum(1, keepdim=True)


def block(state, name, x, first):
    h = conv(state, f"{name}.conv1", x if first else x.relu())
    h = conv(state, f"{name}.conv2", h.relu())
    if f"{name}.conv_sc.weight" not in state:
        return h + x
    if first:
        return F.avg_pool2d(h, 2) + conv(state, f"{name}.conv_sc", F.avg_pool2d(x, 2))
    x = conv(state, f"{name}.conv_sc", x)
    is_last = f"blocks.{int(name.split('.')[1]) + 1}.0.conv1.weight" not in state
    return h + x if is_last else F.avg_pool2d(h, 2) + F.avg_pool2d(x, 2)


def deep_block(state, name, x, down):
    h = conv(state, f"{name}.conv1", x.relu())
    h = conv(state, f"{name}.conv2", h.relu())
    h = conv(state, f"{name}.conv3", h.relu()).relu()
    h, x = (F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)) if down else (h, x)
    h = conv(state, f"{name}.conv4", h)
    if f"{name}.conv_sc.weight" in state:
        x = torch.cat([x, conv(state, f"{name}.conv_sc", x)], 1)
    return h + x
