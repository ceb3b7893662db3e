"""StyleGAN2: the published names, sizes and numbers, in every architecture."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F

import gankern
from gankern import convolution as routines
from gankern.models.stylegan2 import Discriminator, Generator, MappingNetwork
from gankern.reference.conv2d_resample import conv2d_resample
from gankern.reference.minibatch_stddev import minibatch_stddev
from gankern.reference.modulated_conv2d import modulated_conv2d
from gankern.reference.upfirdn2d import upfirdn2d

ARCHITECTURES = ["skip", "resnet", "orig"]


def make_G(resolution=16, c_dim=3, img_channels=3, **kwargs):
    torch.manual_seed(0)
    options = {"channel_base": 128, "channel_max": 16, "mapping_kwargs": {"num_layers": 2}, **kwargs}
    G = Generator(12, c_dim, 10, resolution, img_channels, **options)
    with torch.no_grad():
        for name, parameter in G.named_parameters():
            if name.endswith(("bias", "noise_strength")):
                parameter.add_(torch.randn_like(parameter) * 0.3)  # as after some training
        G.mapping.w_avg.normal_()
    return G


def make_D(resolution=16, c_dim=3, img_channels=3, **kwargs):
    torch.manual_seed(1)
    options = {"channel_base": 128, "channel_max": 16, "mapping_kwargs": {"num_layers": 2}, **kwargs}
    D = Discriminator(c_dim, resolution, img_channels, **options)
    with torch.no_grad():
        for name, parameter in D.named_parameters():
            if name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return D


def latents(n=4, c_dim=3, dtype=torch.float32):
    torch.manual_seed(2)
    z = torch.randn([n, 12], dtype=dtype)
    c = torch.eye(c_dim, dtype=dtype)[torch.arange(n) % c_dim] if c_dim else None
    return z, c


# --- The published sizes and names


@pytest.mark.parametrize(
    ("resolution", "channel_base", "num_ws", "entries", "parameters", "buffers"),
    [(1024, 32768, 18, 182, 30_370_060, 2_797_104), (256, 16384, 14, 144, 24_767_458, None)],
)
def test_G_has_the_published_size(resolution, channel_base, num_ws, entries, parameters, buffers):
    with torch.device("meta"):
        G = Generator(512, 0, 512, resolution, 3, channel_base=channel_base)
    assert G.num_ws == num_ws
    assert len(G.state_dict()) == entries
    assert sum(p.numel() for p in G.parameters()) == parameters
    assert buffers is None or sum(b.numel() for b in G.buffers()) == buffers


@pytest.mark.parametrize(
    ("resolution", "channel_base", "entries", "parameters"),
    [(1024, 32768, 82, 29_012_513), (256, 16384, 64, 24_001_089)],
)
def test_D_has_the_published_size(resolution, channel_base, entries, parameters):
    with torch.device("meta"):
        D = Discriminator(0, resolution, 3, channel_base=channel_base)
    assert len(D.state_dict()) == entries
    assert sum(p.numel() for p in D.parameters()) == parameters


LAYER = ["weight", "bias", "noise_strength", "noise_const", "resample_filter", "affine.weight", "affine.bias"]
TORGB = ["weight", "bias", "affine.weight", "affine.bias"]
CONV = ["weight", "bias", "resample_filter"]
MAPPING = [f"mapping.{layer}.{name}" for layer in ("embed", "fc0", "fc1") for name in ("weight", "bias")]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_G_has_the_published_names(architecture):
    names = {"mapping.w_avg", *MAPPING, "synthesis.b4.const"}
    for block in ("b4", "b8"):
        names |= {f"synthesis.{block}.resample_filter"}
        names |= {f"synthesis.{block}.conv1.{name}" for name in LAYER}
        if architecture == "skip" or block == "b8":
            names |= {f"synthesis.{block}.torgb.{name}" for name in TORGB}
    names |= {f"synthesis.b8.conv0.{name}" for name in LAYER}
    if architecture == "resnet":
        names |= {"synthesis.b8.skip.weight", "synthesis.b8.skip.resample_filter"}
    assert set(make_G(8, architecture=architecture).state_dict()) == names


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_D_has_the_published_names(architecture):
    names = {*MAPPING, *(f"b4.{layer}.{name}" for layer in ("fc", "out") for name in ("weight", "bias"))}
    names |= {f"b4.conv.{name}" for name in CONV}
    if architecture == "skip":
        names |= {f"b4.fromrgb.{name}" for name in CONV}
    for block in ("b8", "b16"):
        names |= {f"{block}.resample_filter"} | {f"{block}.{c}.{name}" for c in ("conv0", "conv1") for name in CONV}
        if architecture == "skip" or block == "b16":
            names |= {f"{block}.fromrgb.{name}" for name in CONV}
        if architecture == "resnet":
            names |= {f"{block}.skip.weight", f"{block}.skip.resample_filter"}
    assert set(make_D(16, architecture=architecture).state_dict()) == names


def test_a_state_dict_makes_the_same_network():
    z, c = latents()
    G, D = make_G(), make_D()
    other_G, other_D = make_G(), make_D()
    for network in (other_G, other_D):
        for tensor in network.state_dict().values():
            tensor.normal_()
    other_G.load_state_dict(G.state_dict(), strict=True)
    other_D.load_state_dict(D.state_dict(), strict=True)
    img, other = (network.eval()(z, c, noise_mode="const") for network in (G, other_G))
    assert torch.equal(img, other)
    assert torch.equal(D(img, c), other_D(img, c))


# --- The published numbers, computed again from the state dict with the reference ops


def linear(state, name, x, act=False, lr_multiplier=1.0):
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    y = x @ (weight * lr_multiplier / math.sqrt(weight.shape[1])).T + bias * lr_multiplier
    return F.leaky_relu(y, 0.2) * math.sqrt(2) if act else y


def unit(x):
    return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


def mapping(state, z, c, num_layers=2):
    inputs = [] if z is None else [unit(z)]
    x = torch.cat([*inputs, unit(linear(state, "mapping.embed", c))], dim=1)
    for i in range(num_layers):
        x = linear(state, f"mapping.fc{i}", x, act=True, lr_multiplier=0.01)
    return x


def tail(x, bias, gain=1.0, clamp=None):
    x = F.leaky_relu(x + bias[:, None, None], 0.2) * math.sqrt(2) * gain
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def synthesis_layer(state, name, x, w, up=1, gain=1.0, clamp=None):
    f = state[f"{name}.resample_filter"]
    styles = linear(state, f"{name}.affine", w)
    options = (up, 1, (1, 1, 1, 1), f, True, up == 1, None, "linear", 0.0, 1.0, None)
    x = modulated_conv2d(x, state[f"{name}.weight"], styles, None, *options)
    x = x + state[f"{name}.noise_const"] * state[f"{name}.noise_strength"]
    return tail(x, state[f"{name}.bias"], gain, clamp)


def to_rgb(state, name, x, w, clamp=None):
    weight = state[f"{name}.weight"][:, :, 0, 0]
    styles = linear(state, f"{name}.affine", w) / math.sqrt(weight.shape[1])
    x = torch.einsum("nihw,oi,ni->nohw", x, weight, styles) + state[f"{name}.bias"][:, None, None]
    return x if clamp is None else x.clamp(-clamp, clamp)


def synthesis(state, ws, resolution, architecture, clamp=None):
    state = {name.removeprefix("synthesis."): value for name, value in state.items()}
    x, img, i = state["b4.const"].expand(len(ws), -1, -1, -1), None, 0
    for res in (2**k for k in range(2, resolution.bit_length())):
        block, residual = f"b{res}", architecture == "resnet" and res > 4
        f = state[f"{block}.resample_filter"]
        if residual:
            weight = state[f"{block}.skip.weight"]
            weight = weight / math.sqrt(weight.shape[1])
            skip = conv2d_resample(x, weight, f, 2, 1, (0, 0, 0, 0), 1, False, False) * math.sqrt(0.5)
        if res > 4:
            x, i = synthesis_layer(state, f"{block}.conv0", x, ws[:, i], up=2, clamp=clamp), i + 1
        gain = math.sqrt(0.5) if residual else 1.0
        x, i = synthesis_layer(state, f"{block}.conv1", x, ws[:, i], gain=gain, clamp=clamp), i + 1
        x = x + skip if residual else x
        if img is not None:
            img = upfirdn2d(img, f, (2, 2), (1, 1), (2, 1, 2, 1), False, 4)
        if architecture == "skip" or res == resolution:
            y = to_rgb(state, f"{block}.torgb", x, ws[:, i], clamp)
            img = y if img is None else img + y
    return img


def convolution(state, name, x, down=1, act=True, gain=1.0, clamp=None):
    weight, f = state[f"{name}.weight"], state.get(f"{name}.resample_filter")
    weight, pad = weight / math.sqrt(weight[0].numel()), (weight.shape[2] // 2,) * 4
    x = conv2d_resample(x, weight, f, 1, down, pad, 1, True, False)
    return tail(x, state[f"{name}.bias"], gain, clamp) if act else x * gain


def discriminate(state, img, c, resolution, architecture, clamp=None):
    x = None
    for res in (2**k for k in range(resolution.bit_length() - 1, 2, -1)):
        block = f"b{res}"
        if f"{block}.fromrgb.weight" in state:
            y = convolution(state, f"{block}.fromrgb", img, clamp=clamp)
            x = y if x is None else x + y
        if architecture == "skip":
            img = upfirdn2d(img, state[f"{block}.resample_filter"], (1, 1), (2, 2), (1, 1, 1, 1), False, 1)
        residual = architecture == "resnet"
        gain = math.sqrt(0.5) if residual else 1.0
        y = convolution(state, f"{block}.skip", x, down=2, act=False, gain=gain) if residual else 0
        x = convolution(state, f"{block}.conv0", x, clamp=clamp)
        x = y + convolution(state, f"{block}.conv1", x, down=2, gain=gain, clamp=clamp)
    if "b4.fromrgb.weight" in state:
        y = convolution(state, "b4.fromrgb", img)
        x = y if x is None else x + y
    x = minibatch_stddev(x, min(len(x), 4), 1)
    x = convolution(state, "b4.conv", x, clamp=clamp)
    x = linear(state, "b4.out", linear(state, "b4.fc", x.flatten(1), act=True))
    if c is None:
        return x
    cmap = mapping(state, None, c)
    return (x * cmap).sum(1, keepdim=True) / math.sqrt(cmap.shape[1])


@pytest.mark.parametrize("clamp", [None, 0.5])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_G_computes_what_the_paper_says(architecture, clamp):
    G = make_G(architecture=architecture, conv_clamp=clamp).double().eval()
    z, c = latents(dtype=torch.float64)
    w = mapping(G.state_dict(), z, c)
    torch.testing.assert_close(G.mapping(z, c), w[:, None].repeat(1, G.num_ws, 1), rtol=1e-8, atol=1e-10)
    ws = torch.randn([4, G.num_ws, 10], dtype=torch.float64)
    img = G.synthesis(ws, noise_mode="const")
    truth = synthesis(G.state_dict(), ws, 16, architecture, clamp)
    torch.testing.assert_close(img, truth, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("clamp", [None, 0.5])
@pytest.mark.parametrize("c_dim", [0, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_D_computes_what_the_paper_says(architecture, c_dim, clamp):
    D = make_D(c_dim=c_dim, architecture=architecture, conv_clamp=clamp).double()
    img = torch.randn([8, 3, 16, 16], dtype=torch.float64)
    _, c = latents(8, c_dim, torch.float64)
    truth = discriminate(D.state_dict(), img, c, 16, architecture, clamp)
    torch.testing.assert_close(D(img, c), truth, rtol=1e-8, atol=1e-10)


# --- Shapes and options


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("resolution", "img_channels", "c_dim"), [(4, 3, 0), (8, 1, 0), (8, 4, 3), (32, 3, 3)])
def test_shapes_of_every_architecture(architecture, resolution, img_channels, c_dim):
    G = make_G(resolution, c_dim, img_channels, architecture=architecture)
    D = make_D(resolution, c_dim, img_channels, architecture=architecture)
    z, c = latents(4, c_dim)
    img = G(z, c)
    assert G.num_ws == 2 * (resolution.bit_length() - 2)
    assert img.shape == (4, img_channels, resolution, resolution)
    assert D(img, c).shape == (4, 1)
    assert torch.isfinite(D(img, c)).all()


def test_the_label_matters_to_both_networks():
    G, D = make_G().eval(), make_D()
    z, c = latents()
    img, other = G(z, c, noise_mode="none"), G(z, c.roll(1, 0), noise_mode="none")
    assert (img - other).abs().max() > 1e-3
    assert (D(img, c) - D(img, c.roll(1, 0))).abs().max() > 1e-3


def test_mapping_and_synthesis_make_the_generator():
    G = make_G().eval()
    z, c = latents()
    ws = G.mapping(z, c)
    assert ws.shape == (4, G.num_ws, 10)
    assert torch.equal(G.synthesis(ws, noise_mode="const"), G(z, c, noise_mode="const"))


def test_each_w_reaches_its_own_layer():
    G = make_G().double().eval()
    ws = torch.randn([1, G.num_ws, 10], dtype=torch.float64, requires_grad=True)
    blocks = {0: "b4", 1: "b8", 3: "b16"}  # b4.conv1; b8.conv0 (and b4.torgb); b16.conv0 (and b8.torgb)
    for first, block in blocks.items():
        features = []
        hook = getattr(G.synthesis, block).register_forward_hook(lambda *a, out=features: out.append(a[2][0]))
        G.synthesis(ws, noise_mode="none")
        hook.remove()
        (gradient,) = torch.autograd.grad(features[0].square().sum(), ws)
        reached = gradient.abs().sum(2)[0] > 0
        last = first if block == "b4" else first + 1
        assert reached.tolist() == [i <= last for i in range(G.num_ws)]


def test_truncation_pulls_the_first_ws_to_their_mean():
    G = make_G().eval()
    z, c = latents()
    w_avg, ws = G.mapping.w_avg, G.mapping(z, c)
    torch.testing.assert_close(G.mapping(z, c, truncation_psi=0), w_avg.expand_as(ws))
    torch.testing.assert_close(G.mapping(z, c, 0.7), w_avg + 0.7 * (ws - w_avg))
    cut = G.mapping(z, c, truncation_psi=0.5, truncation_cutoff=2)
    torch.testing.assert_close(cut[:, :2], w_avg + 0.5 * (ws - w_avg)[:, :2])
    assert torch.equal(cut[:, 2:], ws[:, 2:])
    assert torch.equal(G(z, c, 0.5, 2, noise_mode="const"), G.synthesis(cut, noise_mode="const"))


def test_the_mean_of_w_follows_in_training_or_when_told():
    G = make_G()
    z, c = latents()
    before = G.mapping.w_avg.clone()

    def moved(**kwargs):
        G.mapping.w_avg.copy_(before)
        w = G.mapping(z, c, **kwargs)[:, 0]
        if torch.equal(G.mapping.w_avg, before):
            return False
        torch.testing.assert_close(G.mapping.w_avg, before * 0.995 + w.mean(0) * 0.005)
        return True

    assert moved()
    assert not moved(skip_w_avg_update=True)
    assert not moved(update_emas=False)
    G.eval()
    assert not moved()
    assert moved(update_emas=True)
    assert not G.mapping.w_avg.requires_grad


def test_noise_modes():
    G = make_G().eval()
    ws = G.mapping(*latents())

    def images(mode):
        return G.synthesis(ws, noise_mode=mode), G.synthesis(ws, noise_mode=mode)

    first, second = images("random")
    assert (first - second).abs().max() > 1e-2
    assert torch.equal(*images("const"))
    assert torch.equal(*images("none"))
    const, none = images("const")[0], images("none")[0]
    assert (const - none).abs().max() > 1e-2
    with torch.no_grad():
        for name, parameter in G.named_parameters():
            if name.endswith("noise_strength"):
                parameter.zero_()
    for mode in ("random", "const"):
        torch.testing.assert_close(images(mode)[0], none)


def test_low_precision_reaches_the_highest_resolutions_only():
    with torch.device("meta"):
        G = Generator(512, 0, 512, 1024, 3, num_fp16_res=4)
        D = Discriminator(0, 32, 3, num_fp16_res=9, lowp_dtype=torch.bfloat16)
    low = [res for res in G.synthesis.block_resolutions if getattr(G.synthesis, f"b{res}").lowp_dtype]
    assert low == [128, 256, 512, 1024]
    assert [getattr(D, f"b{res}").lowp_dtype for res in (32, 16, 8)] == [torch.bfloat16] * 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("architecture", ["skip", "resnet"])
def test_low_precision_is_close_and_its_results_are_float32(architecture, dtype):
    options = {"num_fp16_res": 2, "lowp_dtype": dtype, "conv_clamp": 256, "architecture": architecture}
    G, D = make_G(**options).eval(), make_D(**options)
    z, c = latents()
    img, exact = G(z, c, noise_mode="const"), G(z, c, noise_mode="const", force_fp32=True)
    assert img.dtype == torch.float32
    assert 0 < (img - exact).abs().max() < 0.05 * exact.abs().max()
    scores, exact_scores = D(img, c), D(img, c, force_fp32=True)
    assert scores.dtype == torch.float32
    assert 0 < (scores - exact_scores).abs().max() < 0.05 * exact_scores.abs().max()
    for gradient in torch.autograd.grad(scores.sum(), [*G.parameters(), *D.parameters()]):
        assert gradient.dtype == torch.float32
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("img_channels", [1, 3])
@pytest.mark.parametrize("make", [make_G, make_D], ids=["G", "D"])
def test_channels_last_stays_channels_last(make, img_channels, architecture):
    options = {"img_channels": img_channels, "architecture": architecture}
    network, plain = make(**options, channels_last=True).eval(), make(**options).eval()
    z, c = latents()
    inputs, options = (
        ((z, c), {"noise_mode": "const"}) if make is make_G else ((torch.randn([4, img_channels, 16, 16]), c), {})
    )
    formats = []
    for name, module in network.named_modules():
        if name.endswith(("fromrgb", "conv0", "conv1", "conv", "skip")):
            module.register_forward_hook(
                lambda _, __, y: formats.append(y.is_contiguous(memory_format=torch.channels_last))
            )
    y = network(*inputs, **options)
    assert len(formats) >= 5
    assert all(formats)
    torch.testing.assert_close(y, plain(*inputs, **options), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("freeze_layers", "frozen"), [(0, []), (1, ["b16.fromrgb"]), (6, ["b16", "b8.conv0", "b8.conv1"])]
)
def test_frozen_layers_of_D_are_buffers_of_the_same_names(freeze_layers, frozen):
    D = make_D(block_kwargs={"freeze_layers": freeze_layers})
    assert set(D.state_dict()) == set(make_D().state_dict())
    frozen_names = set(dict(make_D().named_parameters())) - set(dict(D.named_parameters()))
    assert all(any(name.startswith(f"{prefix}.") for prefix in frozen) for name in frozen_names)
    assert {prefix for prefix in frozen if any(n.startswith(f"{prefix}.") for n in frozen_names)} == set(frozen)


def test_synthesis_options_may_be_flat_or_a_dictionary():
    flat = Generator(4, 0, 4, 8, 1, channel_max=8)
    nested = Generator(4, 0, 4, 8, 1, synthesis_kwargs={"channel_max": 8})
    assert [p.shape for p in flat.parameters()] == [p.shape for p in nested.parameters()]


# --- Gradients


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_both_formulations_agree_to_second_order(architecture):
    G = make_G(architecture=architecture).double().eval()
    ws = G.mapping(*latents(dtype=torch.float64)).detach().requires_grad_()
    parameters = list(G.synthesis.parameters())
    torch.manual_seed(3)
    noise = torch.randn([4, 3, 16, 16], dtype=torch.float64)
    results = []
    for fused_modconv in (True, False, None):
        img = G.synthesis(ws, noise_mode="const", fused_modconv=fused_modconv)
        options = {"allow_unused": True, "materialize_grads": True}
        first = torch.autograd.grad(img.square().sum(), [ws, *parameters], retain_graph=True)
        (path,) = torch.autograd.grad((img * noise).sum(), ws, create_graph=True)
        second = torch.autograd.grad(path.square().sum(), [ws, *parameters], **options)
        results.append([img, *first, *second])
    torch.testing.assert_close(results[0], results[1], rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(results[0], results[2], rtol=1e-7, atol=1e-7)


def test_every_parameter_learns_from_the_losses():
    G, D = make_G(), make_D()
    z, c = latents()
    loss = F.softplus(-D(G(z, c), c)).mean()
    for network in (G, D):
        gradients = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
        for (name, _), gradient in zip(network.named_parameters(), gradients, strict=True):
            assert gradient.abs().max() > 0, name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_r1_penalty_reaches_every_weight_of_D(architecture):
    D = make_D(architecture=architecture)
    img = torch.randn([4, 3, 16, 16], requires_grad=True)
    (gradient,) = torch.autograd.grad(D(img, latents()[1]).sum(), img, create_graph=True)
    gradient.square().sum().backward()
    for name, parameter in D.named_parameters():
        if name.endswith("weight"):
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_path_length_reaches_every_weight_of_G(architecture):
    G = make_G(architecture=architecture)
    ws = G.mapping(*latents())
    img = G.synthesis(ws)
    (gradient,) = torch.autograd.grad((img * torch.randn_like(img)).sum(), ws, create_graph=True)
    gradient.square().sum(2).mean(1).sqrt().mean().backward()
    for name, parameter in G.named_parameters():
        if name.endswith(("weight", "affine.bias", "const")):
            assert parameter.grad.abs().max() > 0, name


def penalty_gradients(net, penalty, dtype, backend):
    net.to(dtype).zero_grad()
    with gankern.use_backend(backend):
        penalty(net, dtype).backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in net.named_parameters()}


def r1(D, dtype):
    img = torch.randn([2, 3, 32, 32], generator=torch.Generator().manual_seed(2)).to(dtype).requires_grad_()
    return gankern.r1_penalty(D, img, torch.eye(3)[:2].to(dtype)).mean()


def path_length(G, dtype):
    z, c = (value.to(dtype) for value in latents(2, dtype=torch.float32))
    ws = G.mapping(z, c).detach().requires_grad_()
    img = G.synthesis(ws, noise_mode="const")
    (gradient,) = torch.autograd.grad(img.square().sum(), ws, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt().mean()


@pytest.mark.parametrize(("make", "penalty"), [(make_D, r1), (make_G, path_length)], ids=["R1", "path_length"])
def test_penalties_of_wide_networks_equal_eagers_parameter_gradients_included(make, penalty, monkeypatch):
    """48 channels at 32x32 are wide enough for the fast convolution, whose rounding is the largest."""
    used = []
    fast = routines.winograd
    monkeypatch.setattr(routines, "winograd", lambda *inputs: used.append(1) or fast(*inputs))
    net = make(32, channel_base=32 * 48, channel_max=48)
    backend = "native" if gankern.dispatch.why_not("upfirdn2d", "native", "cpu") is None else "eager"
    actual = penalty_gradients(net, penalty, torch.float32, backend)
    assert bool(used) == (backend == "native")
    eager = penalty_gradients(net, penalty, torch.float32, "eager")
    exact = penalty_gradients(net, penalty, torch.float64, "eager")
    for name, value in exact.items():
        allowed = 4 * (eager[name] - value).abs().max() + 1e-4 * value.abs().max()
        assert (actual[name] - value).abs().max() <= allowed, name


def test_copies_are_independent():
    G = make_G().eval()
    G_ema = copy.deepcopy(G)
    z, c = latents()
    with torch.no_grad():
        G.synthesis.b4.const.zero_()
    assert not torch.equal(G(z, c, noise_mode="const"), G_ema(z, c, noise_mode="const"))


# --- torch.compile and errors


@pytest.mark.parametrize("architecture", ["skip", "resnet"])
def test_G_compiles_as_one_graph_with_the_same_gradients(architecture):
    torch._dynamo.reset()
    G = make_G(8, architecture=architecture).eval()
    z, c = latents()
    compiled = torch.compile(G, fullgraph=True, backend="aot_eager")
    results = []
    for network in (G, compiled):
        img = network(z, c, truncation_psi=0.7, noise_mode="const")
        results.append([img, *torch.autograd.grad(img.square().sum(), list(G.parameters()))])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def test_D_compiles_as_one_graph():
    torch._dynamo.reset()
    D = make_D(8, num_fp16_res=1, lowp_dtype=torch.bfloat16)
    img, c = torch.randn([4, 3, 8, 8]), latents()[1]
    torch.testing.assert_close(torch.compile(D, fullgraph=True, backend="aot_eager")(img, c), D(img, c))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_G(24), "img_resolution must be a power of two, at least 4, got 24"),
        (lambda: make_D(2), "img_resolution must be a power of two, at least 4, got 2"),
        (lambda: make_G(8, architecture="unet"), "architecture must be one of skip, resnet, orig, got 'unet'"),
        (lambda: make_D(8, architecture="unet"), "architecture must be one of skip, resnet, orig, got 'unet'"),
        (lambda: make_G(8)(*latents(), noise_mode="loud"), "noise_mode must be one of random, const, none, got 'loud'"),
        (lambda: make_G(8)(torch.zeros([4, 5])), r"z must have shape \[N, 12\], got \[4, 5\]"),
        (lambda: make_G(8)(latents()[0]), r"c must have shape \[N, 3\], got None"),
        (lambda: make_G(8).synthesis(torch.zeros([4, 3, 10])), r"ws must have shape \[N, 4, 10\], got \[4, 3, 10\]"),
        (lambda: make_D(8)(torch.zeros([4, 3, 8, 9])), r"img must have shape \[N, 3, 8, 8\], got \[4, 3, 8, 9\]"),
        (
            lambda: MappingNetwork(12, 0, 10, 2, w_avg_beta=None)(latents()[0], truncation_psi=0.5),
            "truncation_psi must be 1 without a mean of w",
        ),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
