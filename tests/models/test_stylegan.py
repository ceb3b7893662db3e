"""StyleGAN: the published sizes and numbers, at every stage of its growth."""

from __future__ import annotations

import copy
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

import gankern
from gankern.models.stylegan import Discriminator, Generator
from gankern.reference.gradient_penalty import squared_gradient_norms

STAGES = [(4, False), (8, True), (8, False), (16, True), (16, False)]


def make_G(resolution=16, c_dim=3, img_channels=3, **kwargs):
    torch.manual_seed(0)
    options = {"channel_base": 64, "channel_max": 12, "mapping_kwargs": {"num_layers": 3}, **kwargs}
    G = Generator(6, c_dim, 5, resolution, img_channels, **options)
    return as_after_some_training(G)


def make_D(resolution=16, c_dim=3, img_channels=3, **kwargs):
    torch.manual_seed(1)
    return as_after_some_training(
        Discriminator(c_dim, resolution, img_channels, **{"channel_base": 64, "channel_max": 12, **kwargs})
    )


def as_after_some_training(net):
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if name.endswith(("bias", "noise_strength", "w_avg", "const")) and "noise_const" not in name:
                value.add_(torch.randn_like(value) * 0.3)
    return net


def grow(resolution, fading, *nets, alpha=0.3):
    for net in nets:
        net.grow(resolution, fading)
        net.alpha.fill_(alpha)


def inputs(n=4, c_dim=3, dtype=torch.float32):
    torch.manual_seed(2)
    z = torch.randn([n, 6]).to(dtype)  # the same in every dtype
    c = torch.eye(c_dim, dtype=dtype)[torch.arange(n) % c_dim] if c_dim else None
    return z, c


# --- The published sizes


def test_the_networks_have_the_published_numbers_of_parameters():
    with torch.device("meta"):
        G, D = Generator(512, 0, 512, 1024, 3), Discriminator(0, 1024, 3)
    assert G.num_ws == 18
    assert sum(p.numel() for p in G.parameters()) == 26_219_627
    assert sum(p.numel() for p in D.parameters()) == 23_087_249  # ProGAN's, which has the same layers


@pytest.mark.parametrize(("resolution", "c_dim", "img_channels"), [(4, 0, 3), (64, 10, 1), (256, 0, 4)])
def test_the_numbers_of_parameters_follow_from_the_layers(resolution, c_dim, img_channels):
    """Derived from the papers' tables: every layer's weights, biases, noise strengths and styles."""
    with torch.device("meta"):
        G, D = Generator(512, c_dim, 512, resolution, img_channels), Discriminator(c_dim, resolution, img_channels)
    width = {r: min(16384 // r, 512) for r in (2**i for i in range(1, 11))}
    resolutions = [r for r in width if 4 <= r <= resolution]
    epilogue = {r: 2 * c + 2 * c * 513 for r, c in width.items()}  # noise and bias, affine
    mapping = 8 * 513 * 512 + (c_dim * 512 + 512 * 512 if c_dim else 0)
    synthesis = 512 * 16 + 9 * 512**2 + 2 * epilogue[4]  # the constant and one convolution
    for r in resolutions[1:]:
        synthesis += 9 * width[r] * (width[r // 2] + width[r]) + 2 * epilogue[r]
    images = sum((width[r] + 1) * img_channels for r in resolutions)
    assert sum(p.numel() for p in G.parameters()) == mapping + synthesis + images
    head = (9 * 513 + 1) * 512 + (512 * 16 + 1) * 512 + 513 * max(c_dim, 1)
    blocks = sum((9 * width[r] + 1) * (width[r] + width[r // 2]) for r in resolutions[1:])
    images = sum((img_channels + 1) * width[r] for r in resolutions)
    assert sum(p.numel() for p in D.parameters()) == head + blocks + images


def test_the_names_are_those_of_the_docstring():
    G, D = make_G(8), make_D(8)
    layer = ["noise_strength", "noise_const", "bias", "affine.weight", "affine.bias"]
    names = {"mapping.w_avg", "mapping.embed.weight", "synthesis.alpha", "synthesis.b4.const"}
    names |= {f"mapping.fc{i}.{name}" for i in range(3) for name in ("weight", "bias")}
    names |= {"synthesis.b8.conv0.weight"}
    for b in ("synthesis.b4", "synthesis.b8"):
        names |= {f"{b}.conv1.weight", f"{b}.torgb.weight", f"{b}.torgb.bias"}
        names |= {f"{b}.epilogue{i}.{name}" for i in (0, 1) for name in layer}
    assert {name for name in G.state_dict() if not name.endswith("resample_filter")} == names
    layers = ["b8.fromrgb", "b8.conv0", "b8.conv1", "b4.fromrgb", "b4.conv", "b4.fc", "b4.out"]
    names = {f"{name}.{part}" for name in layers for part in ("weight", "bias")} | {"alpha"}
    assert {name for name in D.state_dict() if not name.endswith("resample_filter")} == names


def test_at_the_start_weights_are_normal_noise_is_off_and_styles_are_the_identity():
    torch.manual_seed(0)
    G, D = Generator(64, 0, 64, 8, 3, channel_max=64), Discriminator(0, 8, 3, channel_max=64)
    for name, parameter in [*G.named_parameters(), *D.named_parameters()]:
        if name.endswith("weight"):
            std = 100 if name.startswith("mapping") else 1  # 1 / lr_multiplier
            assert parameter.std().item() == pytest.approx(std, rel=0.2), name
        else:
            assert (parameter == float(name.endswith("const"))).all(), name


# --- The published numbers, computed again from the state dict in plain PyTorch


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


FUSED_SCALE = {False: lambda res: False, True: lambda res: True, "auto": lambda res: res >= 128}


@pytest.mark.parametrize(("resolution", "fading"), STAGES)
@pytest.mark.parametrize("c_dim", [0, 3])
@pytest.mark.parametrize("fused_scale", [False, True])
def test_G_computes_what_the_paper_says(fused_scale, c_dim, resolution, fading):
    G = make_G(c_dim=c_dim, fused_scale=fused_scale).double()
    grow(resolution, fading, G)
    z, c = inputs(c_dim=c_dim, dtype=torch.float64)
    w = mapping(G.state_dict(), z, c)
    torch.testing.assert_close(G.mapping(z, c), w[:, None].repeat(1, 6, 1), rtol=1e-10, atol=1e-10)
    ws = torch.randn([4, 6, 5], dtype=torch.float64)
    truth = synthesis(G.state_dict(), ws, resolution, fading, FUSED_SCALE[fused_scale])
    assert truth.shape == (4, 3, resolution, resolution)
    torch.testing.assert_close(G.synthesis(ws, noise_mode="const"), truth, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("resolution", "fading"), STAGES)
@pytest.mark.parametrize("c_dim", [0, 3])
@pytest.mark.parametrize("fused_scale", [False, True])
def test_D_computes_what_the_paper_says(fused_scale, c_dim, resolution, fading):
    D = make_D(c_dim=c_dim).double()
    grow(resolution, fading, D)
    img = torch.randn([8, 3, resolution, resolution], dtype=torch.float64)
    _, c = inputs(8, c_dim, torch.float64)
    truth = discriminate(D.state_dict(), img, c, resolution, fading, FUSED_SCALE[fused_scale])
    torch.testing.assert_close(D(img, c), truth, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("resolution", "fading"), STAGES)
def test_the_gradients_are_those_of_what_the_paper_says(resolution, fading):
    """First order for G, and for D the second order of R1, with labels."""
    G, D = make_G().double(), make_D().double()
    grow(resolution, fading, G, D)
    z, c = inputs(dtype=torch.float64)
    img = torch.randn([4, 3, resolution, resolution], dtype=torch.float64)
    stage = resolution, fading, FUSED_SCALE[False]

    def plain_G(z, c):
        return synthesis(everything(G), mapping(everything(G), z, c)[:, None].repeat(1, 6, 1), *stage)

    def plain_D(img, c):
        return discriminate(everything(D), img, c, *stage)

    def results(G_of, D_of):
        penalty = squared_gradient_norms(D_of, img, c).mean() + F.softplus(-D_of(img, c)).mean()
        return gradients(F.softplus(-D_of(G_of(z, c), c)).mean(), G), gradients(penalty, D)

    actual = results(partial(G, noise_mode="const"), D)
    torch.testing.assert_close(actual, results(plain_G, plain_D), rtol=1e-8, atol=1e-10)


def everything(net):
    return {**dict(net.named_parameters()), **dict(net.named_buffers())}


def gradients(loss, net):
    return torch.autograd.grad(loss, list(net.parameters()), allow_unused=True, materialize_grads=True)


def test_kernels_are_stored_as_published_from_128_pixels_on():
    G = make_G(128, 0, channel_base=256, channel_max=4).double()
    D = make_D(128, 0, channel_base=256, channel_max=4).double()
    ws = torch.randn([2, 12, 5], dtype=torch.float64)
    auto, never = (synthesis(G.state_dict(), ws, 128, False, FUSED_SCALE[f]) for f in ("auto", False))
    img = G.synthesis(ws, noise_mode="const")
    assert (auto - never).abs().max() > 0.1
    torch.testing.assert_close(img, auto, rtol=1e-10, atol=1e-10)
    truth = discriminate(D.state_dict(), img, None, 128, False, FUSED_SCALE["auto"])
    torch.testing.assert_close(D(img), truth, rtol=1e-10, atol=1e-10)


# --- Growing


def test_a_new_network_is_fully_grown():
    for net in (make_G(), make_D()):
        assert (net.resolution, net.fading, net.alpha.item()) == (16, False, 1)
        assert net.alpha.dtype == torch.float32
        assert any(buffer is net.alpha for buffer in net.buffers())


@pytest.mark.parametrize("resolution", [8, 16])
def test_a_fade_begins_with_the_old_resolution_and_ends_with_the_new(resolution):
    G, D = make_G().double(), make_D().double()
    ws = torch.randn([4, 6, 5], dtype=torch.float64)
    real_img, c = torch.randn([4, 3, resolution, resolution], dtype=torch.float64), inputs(dtype=torch.float64)[1]

    def run(*stage, img=real_img, **alpha):
        grow(*stage, G, D, **alpha)
        return G.synthesis(ws, noise_mode="const"), D(img, c)

    old_img, old_scores = run(resolution // 2, False, img=box_down(real_img))
    img, scores = run(resolution, True, alpha=0.0)
    torch.testing.assert_close([img, scores], [box_up(old_img), old_scores])
    img, scores = run(resolution, True, alpha=1.0)
    new_img, new_scores = run(resolution, False, alpha=0.0)  # which counts only while it fades
    torch.testing.assert_close([img, scores], [new_img, new_scores])


def test_alpha_is_read_as_data():
    """The number is unknown when a step is captured: here it differs between the runs of one compiled graph."""
    torch._dynamo.reset()
    G, D = make_G(8, 0), make_D(8, 0)
    ws, img = torch.randn([2, 4, 5]), torch.randn([2, 3, 8, 8])
    grow(8, True, G, D)

    def both(ws, img):
        return G.synthesis(ws, noise_mode="const"), D(img)

    compiled = torch.compile(both, fullgraph=True, backend="eager")
    results = []
    for alpha in (0.0, 1.0):
        grow(8, True, G, D, alpha=alpha)
        results.append(compiled(ws, img))
        torch.testing.assert_close(results[-1], both(ws, img))
    for first, second in zip(*results, strict=True):
        assert (first - second).abs().max() > 0.1


@pytest.mark.parametrize(("resolution", "fading"), STAGES)
def test_only_the_blocks_of_the_stage_run_and_learn(resolution, fading):
    G, D = make_G(), make_D()
    grow(resolution, fading, G, D)
    z, c = inputs()
    F.softplus(-D(G(z, c), c)).mean().backward()
    images = {resolution, resolution // 2} if fading else {resolution}
    for net, rgb in ((G.synthesis, "torgb"), (D, "fromrgb")):
        for name, parameter in net.named_parameters():
            res = int(name.split(".")[0][1:])
            runs = res in images if rgb in name else res <= resolution
            assert (parameter.grad is not None and bool(parameter.grad.abs().max() > 0)) == runs, name


def test_it_may_start_anywhere():
    G, D = make_G(64, 0), make_D(64, 0)
    for resolution in (4, 8, 16, 32, 64):
        grow(resolution, False, G, D)
        assert D(G(inputs(c_dim=0)[0])).shape == (4, 1)


# --- Shapes and options


@pytest.mark.parametrize(("resolution", "fading"), STAGES)
@pytest.mark.parametrize(("img_channels", "base_size"), [(1, (4, 4)), (4, (3, 5)), (3, (2, 1))])
def test_images_of_any_shape_and_number_of_channels(img_channels, base_size, resolution, fading):
    options = {"img_channels": img_channels, "base_size": base_size}
    G, D = make_G(**options), make_D(**options)
    grow(resolution, fading, G, D)
    z, c = inputs()
    img = G(z, c)
    assert img.shape == (4, img_channels, base_size[0] * resolution // 4, base_size[1] * resolution // 4)
    assert D(img, c).shape == (4, 1)
    assert torch.isfinite(D(img, c)).all()


@pytest.mark.parametrize("make", [make_G, make_D], ids=["G", "D"])
def test_non_square_images_are_what_the_paper_says_too(make):
    net = make(8, 0, base_size=(2, 3)).double()
    grow(8, True, net)
    if make is make_G:
        ws = torch.randn([4, 4, 5], dtype=torch.float64)
        img, truth = net.synthesis(ws, noise_mode="const"), synthesis(net.state_dict(), ws, 8, True, FUSED_SCALE[False])
    else:
        img = torch.randn([4, 3, 4, 6], dtype=torch.float64)
        img, truth = net(img), discriminate(net.state_dict(), img, None, 8, True, FUSED_SCALE[False])
    torch.testing.assert_close(img, truth, rtol=1e-10, atol=1e-10)


def test_the_label_matters_to_both_networks():
    G, D = make_G(), make_D()
    z, c = inputs()
    img = G(z, c, noise_mode="none")
    assert (img - G(z, c.roll(1, 0), noise_mode="none")).abs().max() > 1e-2
    assert (D(img, c) - D(img, c.roll(1, 0))).abs().max() > 1e-3
    scores = [D(img, torch.eye(3)[[k] * 4]) for k in range(3)]
    soft = torch.tensor([[0.2, 0.3, 0.5]]).expand(4, 3)
    torch.testing.assert_close(D(img, soft), 0.2 * scores[0] + 0.3 * scores[1] + 0.5 * scores[2])


def test_truncation_pulls_ws_to_their_mean():
    G = make_G()
    z, c = inputs()
    w_avg, ws = G.mapping.w_avg, G.mapping(z, c)
    assert torch.equal(G.mapping(z, c, truncation_psi=0), w_avg.expand_as(ws))
    images = G(z, c, truncation_psi=0, noise_mode="const")
    mean_image = G.synthesis(w_avg.expand(1, 6, 5), noise_mode="const")
    torch.testing.assert_close(images, mean_image.expand_as(images))
    torch.testing.assert_close(G.mapping(z, c, 0.7), w_avg + 0.7 * (ws - w_avg))
    cut = G.mapping(z, c, truncation_psi=0.5, truncation_cutoff=2)
    torch.testing.assert_close(cut[:, :2], w_avg + 0.5 * (ws - w_avg)[:, :2])
    assert torch.equal(cut[:, 2:], ws[:, 2:])
    assert torch.equal(G.mapping(z, c, 0.5, truncation_cutoff=0), ws)
    torch.testing.assert_close(
        G(z, c, 0.5, 2, noise_mode="const"), G.synthesis(cut, noise_mode="const"), rtol=1e-5, atol=1e-5
    )


def test_every_layer_may_have_a_psi_of_its_own():
    G = make_G()
    z, c = inputs()
    w_avg, ws = G.mapping.w_avg, G.mapping(z, c)
    psi = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    truncated = G.mapping(z, c, truncation_psi=psi)
    for i, p in enumerate(psi):
        torch.testing.assert_close(truncated[:, i], w_avg + p * (ws[:, i] - w_avg))
    cut = G.mapping(z, c, truncation_psi=psi, truncation_cutoff=3)
    assert torch.equal(cut, torch.cat([truncated[:, :3], ws[:, 3:]], dim=1))


def test_styles_mix_layer_by_layer():
    G = make_G().double()
    first, second = torch.randn([2, 1, 6, 5], dtype=torch.float64)
    first.requires_grad_()
    for resolution, fading in STAGES:
        grow(resolution, fading, G)
        k = 2 * (resolution.bit_length() - 2)  # layers in use
        mixed = torch.cat([first[:, : k - 1], second[:, k - 1 :]], dim=1)
        img = G.synthesis(mixed, noise_mode="none")
        assert (img - G.synthesis(first, noise_mode="none")).abs().max() > 1e-3
        (gradient,) = torch.autograd.grad(G.synthesis(first, noise_mode="none").square().sum(), first)
        assert (gradient[0].abs().sum(1) > 0).tolist() == [i < k for i in range(6)]


def test_the_mean_of_w_follows_only_when_told():
    G = make_G()
    z, c = inputs()
    before = G.mapping.w_avg.clone()
    for mode in (True, False):
        G.train(mode)
        G(z, c)
        G.mapping(z, c, update_emas=False)
        assert torch.equal(G.mapping.w_avg, before)
    w = G.mapping(z, c, update_emas=True)[:, 0]
    torch.testing.assert_close(G.mapping.w_avg, before * 0.995 + w.mean(0) * 0.005)
    assert not G.mapping.w_avg.requires_grad


def test_noise_modes():
    G = make_G()
    ws = G.mapping(*inputs())

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
        torch.testing.assert_close(images(mode)[0], none, rtol=1e-4, atol=1e-4)


def test_mapping_and_synthesis_make_the_generator():
    G = make_G()
    z, c = inputs()
    assert torch.equal(G.synthesis(G.mapping(z, c), noise_mode="const"), G(z, c, noise_mode="const"))


def test_copies_and_state_dicts_make_the_same_network():
    G, D = make_G(), make_D()
    z, c = inputs()
    other_G, other_D = copy.deepcopy(G), copy.deepcopy(D)
    for tensor in [*other_G.state_dict().values(), *other_D.state_dict().values()]:
        tensor.normal_()
    assert not torch.equal(other_G(z, c, noise_mode="const"), G(z, c, noise_mode="const"))
    other_G.load_state_dict(G.state_dict(), strict=True)
    other_D.load_state_dict(D.state_dict(), strict=True)
    img = G(z, c, noise_mode="const")
    assert torch.equal(other_G(z, c, noise_mode="const"), img)
    assert torch.equal(other_D(img, c), D(img, c))


# --- Fused and eager: the same step


def g_step(G, D, c_dim, dtype):
    z, c = inputs(4, c_dim, dtype)
    img = G(z, c, noise_mode="const")
    loss = F.softplus(-D(img, c)).mean()
    return [img, *gradients(loss, G)]


def d_step(G, D, c_dim, dtype):
    z, c = inputs(4, c_dim, dtype)
    with torch.no_grad():
        img = G(z, c, noise_mode="const")
    real_img = torch.randn(img.shape, generator=torch.Generator().manual_seed(3)).to(dtype)
    loss = F.softplus(D(img, c)).mean() + F.softplus(-D(real_img, c)).mean()
    loss = loss + gankern.r1_penalty(D, real_img, c).mean() * (10 / 2)
    return gradients(loss, D)


def step(which, stage, backend, dtype=torch.float32, **options):
    G, D = make_G(**options).to(dtype), make_D(**options).to(dtype)
    grow(*stage, G, D)
    with gankern.use_backend(backend):
        return which(G, D, 3, dtype)


needs_native = pytest.mark.skipif(
    gankern.dispatch.why_not("style_epilogue", "native", "cpu") is not None, reason="the native kernels are not built"
)


@needs_native
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("which", [g_step, d_step])
def test_the_fused_step_is_the_eager_step(which, stage):
    fused, eager = (step(which, stage, backend, torch.float64) for backend in ("native", "eager"))
    torch.testing.assert_close(fused, eager, rtol=1e-9, atol=1e-10)


def relative_error(results, exact):
    """Root mean square over an image and all gradients; only some gradients of a stage are not zero."""
    squares = []
    for result, truth in zip(results, exact, strict=True):
        if truth.norm() == 0:
            assert result.norm() == 0
        else:
            squares.append(((result - truth).norm() / truth.norm()).square())
    return torch.stack(squares).mean().sqrt()


WIDE = {"channel_base": 16 * 48, "channel_max": 48}  # enough channels for the fast convolution
MODES = {"fp32": {}, "fp32-wide": WIDE, "bf16": {"num_fp16_res": 2}, "bf16-wide": {"num_fp16_res": 2, **WIDE}}


@needs_native
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("which", [g_step, d_step])
def test_the_fused_step_errs_at_most_twice_as_much_as_the_eager_step(which, mode, stage):
    width = WIDE if "wide" in mode else {}
    exact = step(which, stage, "eager", torch.float64, **width)
    fused, eager = (step(which, stage, backend, **MODES[mode]) for backend in ("native", "eager"))
    assert relative_error(fused, exact) <= 2 * relative_error(eager, exact)


# --- Precision, memory format, torch.compile


def test_low_precision_reaches_the_highest_resolutions_only_and_results_are_float32():
    with torch.device("meta"):
        G, D = Generator(8, 0, 8, 1024, 3, num_fp16_res=4), Discriminator(0, 32, 3, num_fp16_res=9)
    assert [res for res in G.synthesis.block_resolutions if G.synthesis.block(res).lowp_dtype] == [128, 256, 512, 1024]
    assert [D.block(res).lowp_dtype for res in (32, 16, 8)] == [torch.bfloat16] * 3


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_low_precision_is_close_and_its_results_are_float32(dtype, stage):
    options = {"num_fp16_res": 1, "lowp_dtype": dtype}
    z, c = inputs()
    results = []
    for kwargs in (options, {}):
        G, D = make_G(**kwargs), make_D(**kwargs)
        grow(*stage, G, D)
        img = G(z, c, noise_mode="const")
        assert img.dtype == torch.float32
        results.append((img, D(results[0][0] if results else img, c)))
    for low, exact in zip(*results, strict=True):
        assert low.dtype == torch.float32
        error = (low - exact).abs().max()
        assert error < 0.05 * exact.abs().max()
        assert (error > 0) == (stage[0] == 16)


@pytest.mark.parametrize("make", [make_G, make_D], ids=["G", "D"])
@pytest.mark.parametrize("stage", STAGES)
def test_channels_last_stays_channels_last(stage, make):
    net, plain = make(channels_last=True), make()
    grow(*stage, net, plain)
    formats = []
    for name, module in net.named_modules():
        if name.endswith(("fromrgb", "conv0", "conv1", "conv", "epilogue1")):
            module.register_forward_hook(
                lambda _, __, y: formats.append(y.is_contiguous(memory_format=torch.channels_last))
            )
    z, c = inputs()
    arguments = (z, c) if make is make_G else (torch.randn([4, 3, stage[0], stage[0]]), c)
    kwargs = {"noise_mode": "const"} if make is make_G else {}
    torch.testing.assert_close(net(*arguments, **kwargs), plain(*arguments, **kwargs), rtol=1e-4, atol=1e-4)
    assert len(formats) >= 2
    assert all(formats)


@pytest.mark.parametrize("fading", [False, True])
def test_a_stage_compiles_as_one_graph_with_the_same_gradients(fading):
    torch._dynamo.reset()
    G, D = make_G(8), make_D(8)
    grow(8, fading, G, D)
    z, c = inputs()

    def scores(z, c):
        return D(G(z, c, truncation_psi=0.7, noise_mode="const"), c)

    results = []
    for function in (scores, torch.compile(scores, fullgraph=True, backend="aot_eager")):
        y = function(z, c)
        results.append([y, *gradients(y.square().sum(), G), *gradients(function(z, c).square().sum(), D)])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


# --- Errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_G(24), "img_resolution must be a power of two, at least 4, got 24"),
        (lambda: make_D(2), "img_resolution must be a power of two, at least 4, got 2"),
        (lambda: make_G(base_size=(4, 0)), r"base_size must be \(height, width\), each at least 1, got \(4, 0\)"),
        (lambda: make_D(base_size=(4,)), r"base_size must be \(height, width\), each at least 1, got \(4,\)"),
        (lambda: make_G(fused_scale="never"), "fused_scale must be True, False or 'auto', got 'never'"),
        (lambda: make_G().grow(32, False), "resolution must be one of 4, 8, 16, got 32"),
        (lambda: make_D().grow(12, True), "resolution must be one of 4, 8, 16, got 12"),
        (lambda: make_D().grow(4, True), "fading must be False at resolution 4, which has none below it, got True"),
        (lambda: make_G()(*inputs(), noise_mode="loud"), "noise_mode must be one of random, const, none, got 'loud'"),
        (lambda: make_G()(torch.zeros([4, 5])), r"z must have shape \[N, 6\], got \[4, 5\]"),
        (lambda: make_G()(inputs()[0]), r"c must have shape \[N, 3\], got None"),
        (lambda: make_G()(*inputs(), truncation_psi=[0.5, 1.0]), "truncation_psi must be one number or 6, got 2"),
        (lambda: make_G()(*inputs(), 0.5, 7), "truncation_cutoff must be from 0 to 6, got 7"),
        (lambda: make_G().synthesis(torch.zeros([4, 3, 5])), r"ws must have shape \[N, 6, 5\], got \[4, 3, 5\]"),
        (lambda: make_D()(torch.zeros([4, 3, 8, 8])), r"img must have shape \[N, 3, 16, 16\], got \[4, 3, 8, 8\]"),
        (lambda: make_D()(torch.zeros([4, 3, 16, 16])), r"c must have shape \[N, 3\], got None"),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
