"""What the arguments of each public op may be. One row per op, in OPS."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from arbitrary import FLOATS, Arbitrary
from calls import Arguments, Call
from hypothesis import strategies as st
from spoiling import spoiled


def adain(a: Arbitrary) -> Arguments:
    n, c, h, w = a.image()
    scale, shift = a.maybe(a.beside(n, c)), a.maybe(a.beside(n, c))
    return {"x": a.tensor(n, c, h, w), "scale": scale, "shift": shift, "eps": a.number(1e-8, 0.1)}


def affine_grid(a: Arbitrary) -> Arguments:
    n, c, h, w = a.image()
    return {"theta": a.tensor(n, 2, 3), "size": [n, c, h, w], "align_corners": a.flag()}


def attention(a: Arbitrary) -> Arguments:
    n, length, s, d, e = a.between(0, 3), a.size(most=33), a.size(1, 33), a.size(most=17), a.size(most=17)
    return {"q": a.tensor(n, length, d), "k": a.tensor(n, s, d), "v": a.tensor(n, s, e), "scale": a.of([0.3, 1, -2])}


def self_attention2d(a: Arbitrary) -> Arguments:
    n, d, h, w = a.image(most=13)
    e, small = a.size(most=13), (a.size(1, 5), a.size(1, 5))
    return {"theta": a.tensor(n, d, h, w), "phi": a.tensor(n, d, *small), "g": a.tensor(n, e, *small)}


def bias_act(a: Arbitrary) -> Arguments:
    shape = a.image(least=0)[a.of([0, 0, 0, 1, 2, 3]) :]
    dim = a.between(0, len(shape) - 1)
    b = a.maybe(a.beside(shape[dim]))
    return {"x": a.tensor(*shape), "b": b, "dim": dim - a.of([0, len(shape)]), **a.tail()}


def conditional_batch_norm(a: Arbitrary) -> Arguments:
    n, c, h, w = a.image()
    gain, bias = (a.beside(*a.of([(n, c), (c,)])) for _ in range(2))
    training, known = a.flag(), a.flag()
    running = {f"running_{s}": replace(a.beside(c, dense=True), values="normal") for s in ("mean", "var")}
    running["running_var"] = replace(running["running_var"], values="positive")
    options = {
        "momentum": a.number(0.1),
        "eps": a.number(1e-5, 0.1),
        "act": a.of([None, None, "relu"]),
        "up": a.of([1, 2]),
    }
    given = running if known or not training else {}
    return {"x": a.tensor(n, c, h, w), "gain": gain, "bias": bias, **given, "training": training, **options}


def convolution(a: Arbitrary, transposed: bool) -> Arguments:
    groups = a.of([1, 1, 1, 2, 3])
    n, c, h, w = a.image(most=33)
    i, o = (c + groups - 1) // groups, a.of([1, 2, 3, 33])
    kernel = a.of([(1, 1), (3, 3), (3, 3), (3, 3), (2, 5), (4, 4)])
    shape = (i * groups, o, *kernel) if transposed else (o * groups, i, *kernel)
    sizes: Arguments = {"stride": a.pair(1, 3), "padding": a.pair(0, 3), "dilation": a.of([1, 1, 1, 2, [2, 1]])}
    if transposed:
        sizes["output_padding"] = a.of([0, 0, 0, 1, [1, 0]])
    weight, bias = a.beside(*shape), a.maybe(a.beside(o * groups))
    options = {"groups": groups, "precise": a.of([False, False, True]), **a.tail()}
    return {"input": a.tensor(n, i * groups, h, w), "weight": weight, "bias": bias, **sizes, **options}


def conv2d_resample(a: Arbitrary) -> Arguments:
    groups, k, n = a.of([1, 1, 2]), a.of([1, 3, 3, 2]), a.between(0, 2)
    i, o, h, w = a.of([1, 2, 33]), a.of([1, 3, 33]), a.size(1, 17), a.size(1, 17)
    options = {name: a.flag() for name in ("flip_weight", "flip_filter", "precise")}
    up, down = a.of([(1, 1), (1, 1), (2, 1), (1, 2), (3, 1), (2, 3)])
    images = {"x": a.tensor(n, i * groups, h, w), "w": a.tensor(o * groups, i, k, k)}
    return {**images, "f": a.filter(), "up": up, "down": down, "padding": a.padding(-1), "groups": groups, **options}


def modulated_conv2d(a: Arbitrary) -> Arguments:
    k, n = a.of([1, 3, 3, 3]), a.between(0, 3)
    i, o, h, w = a.of([1, 2, 33]), a.of([1, 3, 33]), a.size(1, 17), a.size(1, 17)
    up, down = a.of([(1, 1), (1, 1), (1, 1), (2, 1), (1, 2)])
    padding = a.of([k // 2, k // 2, k // 2, 0, 2])
    size = [(s * up + 2 * padding - k) // down + 1 for s in (h, w)]
    noise = a.noise(n, *size) if min(size) > 0 and up == down == 1 else None
    strength = None if noise is None else a.of([None, a.beside(), a.beside(o)])
    gains = a.of([None, None, None, (), (i,), (n, i)])
    return {
        "x": a.tensor(n, i, h, w),
        "weight": a.beside(o, i, k, k),
        "styles": a.beside(n, i),
        "noise": noise,
        "noise_strength": strength,
        "bias": a.maybe(a.beside(o)),
        "up": up,
        "down": down,
        "padding": padding,
        "resample_filter": a.filter(4) if up * down > 1 else None,
        "demodulate": a.flag(),
        "flip_weight": a.flag(),
        "fused_modconv": a.of([None, True, False]),
        "input_gain": None if gains is None else a.beside(*gains),
        "precise": a.of([False, False, True]),
        **a.tail(),
    }


def ema_update(a: Arbitrary) -> Arguments:
    shapes = [a.image(least=0, most=7) for _ in range(a.between(0, 3))]
    dst = [a.tensor(*shape, dtype=a.of(["fp32", "bf16", "fp64"]), dense=True) for shape in shapes]
    src = [a.beside(*shape) for shape in shapes]
    beta = a.of([0, 1, 0.5, 0.999, replace(a.tensor(), dtype="fp32", values="normal", seed=3)])
    return {"dst": dst, "src": src, "beta": beta, "buffers": a.of(["copy", "lerp"])}


def fade(a: Arbitrary) -> Arguments:
    n, c, h, w = a.image()
    old = a.of([(n, c, h, w), (n, c, h // 2, w // 2)])
    alpha = a.of([0, 1, 0.5, 0.3, replace(a.beside(), values="normal")])
    return {"new": a.tensor(n, c, h, w), "old": a.tensor(*old), "alpha": alpha}


def fade_detail(a: Arbitrary) -> Arguments:
    n, c, h, w = a.image()
    return {"x": a.tensor(n, c, h + h % 2, w + w % 2), "alpha": a.of([0, 1, 0.3, replace(a.beside(), values="normal")])}


def filtered_lrelu(a: Arbitrary) -> Arguments:
    n, c, h, w = a.image(most=33)
    filters = {"fu": a.filter(9), "fd": a.filter(9), "b": a.maybe(a.beside(c))}
    sizes = {"up": a.of([1, 2, 3, 4]), "down": a.of([1, 2, 3, 4]), "padding": a.padding(-2)}
    options = {"slope": a.of([0.2, 1.0, 0.0]), "clamp": a.of([None, None, 0.9]), "flip_filter": a.flag()}
    return {"x": a.tensor(n, c, h, w), **filters, **sizes, "gain": a.of([1.4, 0.7]), **options}


def grid_sample(a: Arbitrary) -> Arguments:
    n, c, h, w = a.image()
    grid = a.beside(n, a.size(1, 13), a.size(1, 13), 2)
    return {"x": a.tensor(n, c, h, w), "grid": grid, "align_corners": a.flag()}


def minibatch_stddev(a: Arbitrary) -> Arguments:
    group, channels = a.of([1, 2, 3, 4]), a.of([1, 1, 2, 3])
    n, c, h, w = a.of([0, 1, 2]), a.of([1, 2, 5, 17]), a.size(1, 17), a.size(1, 17)
    options = {"group_size": a.of([group, group, None]), "num_channels": channels, "unbiased": a.flag()}
    return {"x": a.tensor(n * group, c * channels, h, w), **options, "grouping": a.of(["strided", "contiguous"])}


def noise_injection(a: Arbitrary) -> Arguments:
    n, c, h, w = a.image()
    noise = a.beside(*a.of([(h, w), (1, 1, h, w), (n, 1, h, w)]))
    return {"x": a.tensor(n, c, h, w), "noise": noise, "strength": a.of([1, 0, -0.3, a.beside(), a.beside(c)])}


def norm(a: Arbitrary) -> Arguments:
    shape = a.image(least=0)[a.of([0, 0, 0, 1, 2, 3]) :]
    return {"x": a.tensor(*shape), "dim": a.between(-len(shape), len(shape) - 1), "eps": a.of([1e-8, 0.1])}


def path_length_penalty(a: Arbitrary) -> Arguments:
    a.dtype, a.values = a.of(["fp32", "fp64"]), "normal"
    ws = a.tensor(a.between(1, 3), a.between(1, 5), a.size(1, 17))
    return {"ws": ws, "weight": a.tensor(), "pl_mean": a.tensor(dense=True), "decay": a.of([0.01, 0, 1])}


def penalty(a: Arbitrary) -> Arguments:
    return {"x": a.tensor(*a.image(most=13)), "D": a.of(["softplus", "swish"]), "weight": a.tensor()}


def wgan_gp_penalty(a: Arbitrary) -> Arguments:
    a.dtype = a.of(["fp32", "fp64"])
    shape, D = a.image(most=13), a.of(["softplus", "swish"])
    return {"D": D, "real": a.tensor(*shape), "fake": a.tensor(*shape), "weight": a.tensor(), "target": a.number(750)}


def sanitize_gradients(a: Arbitrary) -> Arguments:
    gradients = [a.tensor(*a.image(least=0, most=13), dense=True) for _ in range(a.between(0, 5))]
    return {"gradients": gradients, "nan": a.number(0), "posinf": a.number(1e5), "neginf": a.number(-1e5)}


def setup_filter(a: Arbitrary) -> Arguments:
    a.device = ""  # it makes a filter out of numbers
    taps = a.filter(9) or a.of([None, 2, 0.5, [1, 3, 3, 1], [[1, 2], [3, 4]]])
    options = {"normalize": a.flag(), "flip_filter": a.flag(), "gain": a.number(2)}
    return {"taps": taps, **options, "separable": a.of([None, None, True, False])}


def spectral_norm_batched(a: Arbitrary) -> Arguments:
    shapes = [(a.size(1, 33), a.size(2, 17), *a.of([(), (1, 1), (3, 3)])) for _ in range(a.between(0, 4))]
    dim = a.of([0, 0, 0, 1])
    order, training = a.of(["v", "v", "u"]), a.flag()
    us = [a.beside(s[dim], dense=True) for s in shapes]
    vs = [a.beside(math.prod(s) // s[dim], dense=True) for s in shapes]
    options = {"eps": a.number(1e-12), "num_iters": a.of([1, 1, 2]), "training": training, "dim": dim, "order": order}
    sigmas = a.maybe([a.tensor(dtype="fp32", dense=True) for _ in shapes])
    vs = None if order == "v" and training and a.flag() else vs
    return {"weights": [a.tensor(*s) for s in shapes], "us": us, "vs": vs, "sigmas": sigmas, **options}


def squared_norms(a: Arbitrary) -> Arguments:
    return {"x": a.tensor(*a.image(least=0)[a.of([0, 0, 1, 2, 3]) :])}


def style_epilogue(a: Arbitrary) -> Arguments:
    n, c, h, w = a.image()
    noise = a.noise(n, h, w)
    strength = None if noise is None else a.of([None, a.beside(), a.beside(c)])
    style = {"scale": a.maybe(a.beside(n, c)), "shift": a.maybe(a.beside(n, c))}
    tail = {"act": a.of(["linear", "relu", "lrelu"]), "alpha": a.of([None, 0.2, -0.3]), "gain": a.of([1, 0.7, -1.3])}
    small = {"noise": noise, "strength": strength, "b": a.maybe(a.beside(c)), **style}
    return {"x": a.tensor(n, c, h, w), **small, **tail, "eps": a.number(1e-8, 0.1)}


def styled_bias_act(a: Arbitrary) -> Arguments:
    n, c, h, w = a.image()
    noise = a.noise(n, h, w)
    strength = None if noise is None else a.of([None, a.beside(), a.beside(c)])
    small = {"scale": a.maybe(a.beside(n, c)), "noise": noise, "strength": strength, "b": a.maybe(a.beside(c))}
    return {"x": a.tensor(n, c, h, w), **small, **a.tail()}


def resampling(a: Arbitrary, *scales: str) -> Arguments:
    factors = {name: a.scale() for name in scales}
    options = {"padding": a.padding(), "flip_filter": a.flag(), "gain": a.of([1, 4, -0.7, 0])}
    return {"x": a.tensor(*a.image(most=64)), "f": a.filter(9), **factors, **options}


def upsample_add(a: Arbitrary) -> Arguments:
    n, c, h, w = a.image(most=33)
    up = a.of([1, 2, 2, [3, 2]])
    up_x, up_y = (up, up) if isinstance(up, int) else up
    px, py = a.of([(0, 0), (0, 0), (1, -1)])
    padding = [px, px, py, py]
    y = (
        a.tensor(n, c, h * up_y + 2 * py, w * up_x + 2 * px, dtype=a.of(FLOATS))
        if h * up_y + 2 * py > 0
        else a.beside(n)
    )
    options = {"up": up, "padding": padding, "flip_filter": a.flag(), "gain": a.of([1, -0.7])}
    return {"x": a.of([a.tensor(n, c, h, w)] * 5 + [None]), "y": y, "f": a.filter(), **options}


def winograd(a: Arbitrary) -> Arguments:
    n, i, h, w = a.image(most=33)
    o, dtype = a.of([1, 2, 31, 32, 33, 64]), a.of(["fp32", "fp32", "bf16", "fp16"])
    x, w = a.tensor(n, i, h, w, dtype=dtype), a.tensor(o, i, 3, 3, dtype=a.of(["fp32", dtype]))
    return {"x": x, "w": w, "padding": a.pair(0, 2)}


def winograd_strided(a: Arbitrary) -> Arguments:
    arguments, transposed = winograd(a), a.flag()
    if transposed:
        o, i, kh, kw = arguments["w"].shape
        arguments["w"] = a.tensor(i, o, kh, kw, dtype=arguments["w"].dtype)
    return {**arguments, "transposed": transposed, "output_padding": a.pair(0, 1) if transposed else 0}


OPS: dict[str, Callable[[Arbitrary], Arguments]] = {
    "adain": adain,
    "affine_grid": affine_grid,
    "attention": attention,
    "bias_act": bias_act,
    "conditional_batch_norm": conditional_batch_norm,
    "conv2d": lambda a: convolution(a, transposed=False),
    "conv2d_resample": conv2d_resample,
    "conv_transpose2d": lambda a: convolution(a, transposed=True),
    "downsample2d": lambda a: resampling(a, "down"),
    "ema_update": ema_update,
    "fade": fade,
    "fade_detail": fade_detail,
    "filter2d": lambda a: resampling(a),
    "filtered_lrelu": filtered_lrelu,
    "grid_sample": grid_sample,
    "minibatch_stddev": minibatch_stddev,
    "modulated_conv2d": modulated_conv2d,
    "noise_injection": noise_injection,
    "normalize_2nd_moment": norm,
    "path_length_penalty": path_length_penalty,
    "pixel_norm": norm,
    "r1_penalty": penalty,
    "r2_penalty": penalty,
    "sanitize_gradients": sanitize_gradients,
    "self_attention2d": self_attention2d,
    "setup_filter": setup_filter,
    "spectral_norm_batched": spectral_norm_batched,
    "squared_norms": squared_norms,
    "style_epilogue": style_epilogue,
    "styled_bias_act": styled_bias_act,
    "upfirdn2d": lambda a: resampling(a, "up", "down"),
    "upsample2d": lambda a: resampling(a, "up"),
    "upsample_add": upsample_add,
    "wgan_gp_penalty": wgan_gp_penalty,
    "winograd": winograd,
    "winograd_strided": winograd_strided,
}


@st.composite
def calls(draw: Callable[[st.SearchStrategy], Any], op: str) -> Call:
    """Any call of an op: four of five are meant to be valid."""
    a = Arbitrary(draw, draw(st.sampled_from(FLOATS)))
    arguments = OPS[op](a)
    if draw(st.integers(0, 4)) == 4:
        arguments = spoiled(a, op, arguments)
    call = Call(
        op, arguments, draw(st.integers(0, 2)), draw(st.booleans()), a.of(["dense", "permuted", "expanded", "nan"])
    )
    return replace(call, order=min(call.order, most_orders(call)))


@st.composite
def huge_calls(draw: Callable[[st.SearchStrategy], Any], op: str) -> Call:
    """Without data, with sizes whose product no 32 bits hold."""
    a = Arbitrary(draw, draw(st.sampled_from(FLOATS)), huge=True)
    return Call(op, OPS[op](a))


def most_orders(call: Call) -> int:
    """Derivatives that can be compared: not at NaN, infinity and denormals, nor of a clamp, where rounding decides."""
    if any(t.values not in ("normal", "positive") for t in call.tensors()):
        return 0
    if call.arguments.get("clamp") is not None and any(t.dtype != "fp64" for t in call.tensors()):
        return 0
    return 1 if call.dy == "nan" else 2
