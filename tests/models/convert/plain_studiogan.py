"""PyTorch-StudioGAN's BigGAN in plain PyTorch, from state dicts under its names: the truth of test_studiogan.py."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F

RES32 = (4, 4, 4, 4)  # channels / ch of a generator, between its blocks


def sn_state(name, shape, bias=True, normalised=True):
    """A layer's tensors with random numbers, as torch.nn.utils.spectral_norm keeps them."""
    weight = torch.randn(shape) / 4
    state = {f"{name}.weight_orig" if normalised else f"{name}.weight": weight}
    if normalised:
        u = F.normalize(torch.randn(shape[0]), dim=0)
        v = F.normalize(u @ weight.flatten(1), dim=0)
        v = F.normalize(v + torch.randn(v.shape) / 4 / len(v) ** 0.5, dim=0)  # of weights some steps ago
        state |= {f"{name}.weight_u": u, f"{name}.weight_v": v}
    return state | ({f"{name}.bias": torch.randn(shape[0])} if bias else {})


def statistics(name, c):
    state = {f"{name}.running_mean": torch.randn(c), f"{name}.running_var": torch.rand(c) + 0.5}
    return state | {f"{name}.num_batches_tracked": torch.tensor(0)}


def attention_state(name, c):
    state = {f"{name}.sigma": torch.randn(1)}
    for layer, (c_in, c_out) in {
        "theta": (c, c // 8),
        "phi": (c, c // 8),
        "g": (c, c // 2),
        "attn": (c // 2, c),
    }.items():
        state |= sn_state(f"{name}.conv1x1_{layer}", [c_out, c_in, 1, 1], bias=False)
    return state


def generator_state(units=RES32, ch=2, classes=5, chunk=4, shared=6, attention=(1,), normalised=True):
    """A generator's state dict; `attention` are the stages that are followed by it."""
    options = {"normalised": normalised}
    state = {"shared.weight": torch.randn(classes, shared)}
    state |= sn_state("linear0", [units[0] * ch * 16, chunk], **options)
    number = 0
    for k, (c_in, c_out) in enumerate(pairwise(unit * ch for unit in units)):
        name = f"blocks.{number}.0"
        for bn, c in (("bn1", c_in), ("bn2", c_out)):
            for part in ("gain", "bias"):
                state |= sn_state(f"{name}.{bn}.{part}", [c, shared + chunk], bias=False, **options)
            state |= statistics(f"{name}.{bn}.bn", c)
        for layer, c, k_size in (("conv2d0", c_in, 1), ("conv2d1", c_in, 3), ("conv2d2", c_out, 3)):
            state |= sn_state(f"{name}.{layer}", [c_out, c, k_size, k_size], **options)
        number += 1
        if k in attention:
            state |= attention_state(f"blocks.{number}.0", c_out)
            number += 1
    last = units[-1] * ch
    state |= {"bn4.weight": torch.randn(last), "bn4.bias": torch.randn(last)} | statistics("bn4", last)
    return state | sn_state("conv2d5", [3, last, 3, 3], **options)


def discriminator_state(ch=2, classes=5, attention=(0,), widths=(4, 4, 4, 4)):
    """A discriminator's state dict; for 32x32, whose first two blocks halve the size."""
    state, number = {}, 0
    for k, (c_in, c_out) in enumerate(pairwise([3, *(ch * width for width in widths)])):
        name = f"blocks.{number}.0"
        state |= sn_state(f"{name}.conv2d1", [c_out, c_in, 3, 3]) | sn_state(f"{name}.conv2d2", [c_out, c_out, 3, 3])
        if k < 2:
            state |= sn_state(f"{name}.conv2d0", [c_out, c_in, 1, 1])
        number += 1
        if k in attention:
            state |= attention_state(f"blocks.{number}.0", c_out)
            number += 1
    last = ch * widths[-1]
    return state | sn_state("linear1", [1, last]) | sn_state("embedding", [classes, last], bias=False)


def weight_of(state, name):
    """The weight over the spectral norm that its stored vectors give, as in evaluation."""
    if f"{name}.weight" in state:
        return state[f"{name}.weight"]
    weight = state[f"{name}.weight_orig"]
    return weight / (state[f"{name}.weight_u"] @ weight.flatten(1) @ state[f"{name}.weight_v"])


def conv(state, name, x):
    weight = weight_of(state, name)
    return F.conv2d(x, weight, state.get(f"{name}.bias"), padding=weight.shape[2] // 2)


def ccbn(state, name, x, y):
    x = F.batch_norm(x, state[f"{name}.bn.running_mean"], state[f"{name}.bn.running_var"], eps=1e-4)
    gain, bias = 1 + y @ weight_of(state, f"{name}.gain").T, y @ weight_of(state, f"{name}.bias").T
    return x * gain[:, :, None, None] + bias[:, :, None, None]


def attend(state, name, x):
    n, c, h, w = x.shape
    theta = conv(state, f"{name}.conv1x1_theta", x).view(n, -1, h * w)
    phi = F.max_pool2d(conv(state, f"{name}.conv1x1_phi", x), 2).view(n, -1, h * w // 4)
    attn = torch.bmm(theta.permute(0, 2, 1), phi).softmax(-1)
    g = F.max_pool2d(conv(state, f"{name}.conv1x1_g", x), 2).view(n, -1, h * w // 4)
    attn_g = torch.bmm(g, attn.permute(0, 2, 1)).view(n, c // 2, h, w)
    return x + state[f"{name}.sigma"] * conv(state, f"{name}.conv1x1_attn", attn_g)


def blocks(state):
    return sorted({int(key.split(".")[1]) for key in state if key.startswith("blocks.")})


def generate(state, z, labels):
    """Images for z [N, z_dim] and class numbers [N]."""
    shared = state["shared.weight"][labels]
    chunks = iter(z.split(weight_of(state, "linear0").shape[1], 1))
    act = F.linear(next(chunks), weight_of(state, "linear0"), state["linear0.bias"]).view(len(z), -1, 4, 4)
    for i in blocks(state):
        name = f"blocks.{i}.0"
        if f"{name}.sigma" in state:
            act = attend(state, name, act)
            continue
        y = torch.cat([shared, next(chunks)], 1)
        x = F.interpolate(ccbn(state, f"{name}.bn1", act, y).relu(), scale_factor=2)
        x = ccbn(state, f"{name}.bn2", conv(state, f"{name}.conv2d1", x), y).relu()
        x0 = conv(state, f"{name}.conv2d0", F.interpolate(act, scale_factor=2))
        act = conv(state, f"{name}.conv2d2", x) + x0
    norm = [state[f"bn4.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")]
    return conv(state, "conv2d5", F.batch_norm(act, *norm, eps=1e-4).relu()).tanh()


def discriminate(state, img, labels):
    """Scores of images [N, 3, 32, 32] with class numbers [N]."""
    relu = torch.nn.ReLU(inplace=True)
    h, stage = img, 0
    for i in blocks(state):
        name = f"blocks.{i}.0"
        if f"{name}.sigma" in state:
            h = attend(state, name, h)
            continue
        x0 = x = h
        if stage > 0:
            x = relu(x)  # in place: x0 is another name of the same numbers
        x = conv(state, f"{name}.conv2d2", relu(conv(state, f"{name}.conv2d1", x)))
        if stage == 0:
            x, x0 = F.avg_pool2d(x, 2), conv(state, f"{name}.conv2d0", F.avg_pool2d(x0, 2))
        elif f"{name}.conv2d0.weight_orig" in state:
            x, x0 = F.avg_pool2d(x, 2), F.avg_pool2d(conv(state, f"{name}.conv2d0", x0), 2)
        h = x + x0
        stage += 1
    h = relu(h).sum([2, 3])
    score = F.linear(h, weight_of(state, "linear1"), state["linear1.bias"])
    return score + (weight_of(state, "embedding")[labels] * h).sum(1, keepdim=True)
