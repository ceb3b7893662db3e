"""ProGAN: the published sizes and numbers, at every stage of its growth."""

from __future__ import annotations

import copy
import math
from collections import defaultdict

import pytest
import torch
import torch.nn.functional as F

import gankern
from gankern import convolution as routines
from gankern.models.progan import Discriminator, Generator

# The published level of detail: 0 at full resolution, 1 at half of it; in between the finer resolution fades in.
LODS = [0.0, 0.3, 1.0, 1.75, 2.0]
STAGES = [(16, False), (16, True), (8, True), (8, False), (4, False)]
BACKEND = "native" if gankern.dispatch.why_not("bias_act", "native", "cpu") is None else "eager"


def trained(network):
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return network


def make_G(resolution=16, c_dim=3, img_channels=3, **kwargs):
    torch.manual_seed(0)
    options = {"fmap_base": 64, "fmap_max": 16, **kwargs}
    return trained(Generator(10, c_dim, resolution, img_channels, **options))


def make_D(resolution=16, c_dim=3, img_channels=3, **kwargs):
    torch.manual_seed(1)
    options = {"fmap_base": 64, "fmap_max": 16, **kwargs}
    return trained(Discriminator(c_dim, resolution, img_channels, **options))


def latents(n=4, c_dim=3, dtype=torch.float32, seed=0):
    torch.manual_seed(2 + seed)
    z = torch.randn([n, 10]).to(dtype)  # the same numbers in every precision
    c = torch.eye(c_dim, dtype=dtype)[torch.arange(n) % c_dim] if c_dim else None
    return z, c


def images(network, n=4, dtype=torch.float32, seed=0):
    torch.manual_seed(12 + seed)
    return torch.randn([n, network.img_channels, *network.img_size()]).to(dtype)


def grown(network, resolution, fading, alpha=0.3):
    network.grow(resolution, fading)
    network.alpha.fill_(alpha)
    return network


def to_lod(network, lod):
    """Stops at a published level of detail."""
    return grown(network, network.img_resolution >> int(lod), lod % 1 > 0, 1 - lod % 1)


# --- The published sizes and names


@pytest.mark.parametrize(
    ("resolution", "G_millions", "D_millions"),
    [(128, 22.93, 22.94), (256, 23.04, 23.05), (512, 23.07, 23.08), (1024, 23.079115, 23.087249)],
)
def test_the_networks_have_the_published_sizes(resolution, G_millions, D_millions):
    with torch.device("meta"):
        networks = Generator(512, 0, resolution, 3), Discriminator(0, resolution, 3)
    digits = 6 if resolution == 1024 else 2
    for network, millions in zip(networks, (G_millions, D_millions), strict=True):
        assert round(sum(p.numel() for p in network.parameters()) / 1e6, digits) == millions


def test_the_parameters_have_the_documented_names():
    def named(*layers):
        return {f"{layer}.{name}" for layer in layers for name in ("weight", "bias")}

    G = {"b4.fc.weight", "b4.bias", *named("b4.conv1", "b4.torgb", "b8.conv0", "b8.conv1", "b8.torgb")}
    D = named("b8.fromrgb", "b8.conv0", "b8.conv1", "b4.fromrgb", "b4.conv", "b4.fc", "b4.out")
    assert {name for name, _ in make_G(8).named_parameters()} == G
    assert {name for name, _ in make_D(8).named_parameters()} == D


def test_weights_begin_as_unit_normals_and_biases_as_zero():
    torch.manual_seed(0)
    for network in (Generator(64, 0, 8, 3, fmap_max=64), Discriminator(0, 8, 3, fmap_max=64)):
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                assert not parameter.any(), name
            elif parameter.numel() > 1000:
                assert parameter.std().item() == pytest.approx(1, abs=0.05), name


def test_a_state_dict_makes_the_same_network_and_says_how_far_the_fade_is():
    G, other = grown(make_G(), 8, True), grown(make_G(), 8, True, alpha=0.9)
    with torch.no_grad():
        for tensor in other.parameters():
            tensor.normal_()
    other.load_state_dict(G.state_dict(), strict=True)
    assert torch.equal(G(*latents()), other(*latents()))


# --- The published numbers, computed again from the state dict in plain PyTorch


def normalize(x):
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


ROOT2 = math.sqrt(2)


def he(weight, gain=ROOT2):
    return weight * (gain / math.sqrt(weight[0].numel()))


def lrelu(x):
    return F.leaky_relu(x, 0.2)


def convolve(state, name, x):
    weight = state[f"{name}.weight"]
    return F.conv2d(x, he(weight), padding=weight.shape[2] // 2)


def add_bias(state, name, x):
    return x + state[f"{name}.bias"][:, None, None]


def nearest(x):
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def box(x):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).mean([3, 5])


def widened(kernel):
    """Four copies of a 3x3 kernel, each moved by a pixel: 4x4."""
    return sum(F.pad(kernel, [i, 1 - i, j, 1 - j]) for i in (0, 1) for j in (0, 1))


def convolve_up(state, name, x, fused_scale):
    kernel = he(state[f"{name}.weight"])  # of a true convolution
    if fused_scale:
        return F.conv_transpose2d(x, widened(kernel).transpose(0, 1), stride=2, padding=1)
    return F.conv2d(nearest(x), kernel.flip([2, 3]), padding=1)


def generate(G, z, c, lod, fused_scale):
    state, size = G.state_dict(), G.img_resolution
    x = normalize(z if c is None else torch.cat([z, c], 1))
    x = x @ he(state["b4.fc.weight"], ROOT2 / 4).T
    x = normalize(lrelu(add_bias(state, "b4", x.reshape(len(z), -1, *G.base_size))))
    x = normalize(lrelu(add_bias(state, "b4.conv1", convolve(state, "b4.conv1", x))))
    pictures = {4: to_rgb(state, "b4", x)}
    for res in (2**k for k in range(3, size.bit_length())):
        x = convolve_up(state, f"b{res}.conv0", x, fused_scale)
        x = normalize(lrelu(add_bias(state, f"b{res}.conv0", x)))
        x = normalize(lrelu(add_bias(state, f"b{res}.conv1", convolve(state, f"b{res}.conv1", x))))
        pictures[res] = to_rgb(state, f"b{res}", x)
    res = size >> int(lod)
    return pictures[res] if lod % 1 == 0 else torch.lerp(pictures[res], nearest(pictures[res // 2]), lod % 1)


def to_rgb(state, block, x):
    weight = he(state[f"{block}.torgb.weight"], gain=1)
    return add_bias(state, f"{block}.torgb", torch.einsum("oi,nihw->nohw", weight[:, :, 0, 0], x))


def from_rgb(state, block, img):
    return lrelu(add_bias(state, f"{block}.fromrgb", convolve(state, f"{block}.fromrgb", img)))


def convolve_down(state, name, x, fused_scale):
    if not fused_scale:
        return box(lrelu(add_bias(state, name, convolve(state, name, x))))
    weight = widened(he(state[f"{name}.weight"])) / 4
    return lrelu(add_bias(state, name, F.conv2d(x, weight, stride=2, padding=1)))


def discriminate(D, img, lod, fused_scale, group_size=4):
    state, first = D.state_dict(), D.img_resolution >> int(lod)
    x = from_rgb(state, f"b{first}", img)
    for res in (2**k for k in range(first.bit_length() - 1, 2, -1)):
        x = lrelu(add_bias(state, f"b{res}.conv0", convolve(state, f"b{res}.conv0", x)))
        x = convolve_down(state, f"b{res}.conv1", x, fused_scale)
        if res == first and lod % 1 > 0:
            x = torch.lerp(x, from_rgb(state, f"b{res // 2}", box(img)), lod % 1)
    n = len(x)
    groups = x.reshape(group_size, n // group_size, -1)  # sample i is in group i mod (N / group_size)
    statistic = (groups.var(0, unbiased=False) + 1e-8).sqrt().mean(1).repeat(group_size)
    x = torch.cat([x, statistic[:, None, None, None].expand(n, 1, *x.shape[2:])], 1)
    x = lrelu(add_bias(state, "b4.conv", convolve(state, "b4.conv", x)))
    x = lrelu(x.flatten(1) @ he(state["b4.fc.weight"]).T + state["b4.fc.bias"])
    return x @ he(state["b4.out.weight"], gain=1).T + state["b4.out.bias"]


EXACTLY = {"rtol": 1e-10, "atol": 1e-10}
SHAPES = [({}, 3, 0), ({"base_size": (3, 5)}, 1, 3), ({"base_size": (4, 2), "fmap_decay": 0.5}, 4, 3)]


@pytest.mark.parametrize("fused_scale", [True, False])
@pytest.mark.parametrize("lod", LODS)
@pytest.mark.parametrize(("options", "img_channels", "c_dim"), SHAPES)
def test_G_computes_what_the_paper_says(options, img_channels, c_dim, lod, fused_scale):
    G = to_lod(make_G(16, c_dim, img_channels, **options).double(), lod)
    z, c = latents(4, c_dim, torch.float64)
    torch.testing.assert_close(G(z, c), generate(G, z, c, lod, fused_scale), **EXACTLY)


@pytest.mark.parametrize("fused_scale", [True, False])
@pytest.mark.parametrize("lod", LODS)
@pytest.mark.parametrize(("options", "img_channels", "c_dim"), SHAPES)
def test_D_computes_what_the_paper_says(options, img_channels, c_dim, lod, fused_scale):
    D = to_lod(make_D(16, c_dim, img_channels, fused_scale=fused_scale, **options).double(), lod)
    img = images(D, 8, torch.float64)
    truth = discriminate(D, img, lod, fused_scale)
    torch.testing.assert_close(D(img), truth[:, :1], **EXACTLY)
    if c_dim:
        scores, logits = D(img, latents(8, c_dim)[1], return_logits=True)
        torch.testing.assert_close((scores, logits), (truth[:, :1], truth[:, 1:]), **EXACTLY)


@pytest.mark.parametrize("fused_scale", [True, False])
def test_a_filter_inside_the_kernel_changes_no_number(fused_scale, monkeypatch):
    monkeypatch.setattr(routines, "folds_filter", lambda x, w, taps: True)
    G, D = make_G().double(), make_D(fused_scale=fused_scale).double()
    z, c = latents(dtype=torch.float64)
    img = images(D, dtype=torch.float64)
    torch.testing.assert_close(G(z, c), generate(G, z, c, 0, False), **EXACTLY)
    torch.testing.assert_close(D(img), discriminate(D, img, 0, fused_scale)[:, :1], **EXACTLY)


@pytest.mark.parametrize(("group_size", "used"), [(2, 2), (8, 8), (16, 8), (None, 8)])
def test_the_minibatch_statistic_has_the_asked_group_size(group_size, used):
    D = make_D(mbstd_group_size=group_size).double()
    img = images(D, 8, torch.float64)
    torch.testing.assert_close(D(img), discriminate(D, img, 0, True, used)[:, :1], **EXACTLY)


# --- Growth


@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_a_fade_begins_at_the_previous_stage_and_ends_at_the_next(resolution):
    G, D = make_G(32), make_D(32)
    z, c = latents()
    finished, previous = grown(G, resolution, False)(z, c), grown(G, resolution // 2, False)(z, c)
    torch.testing.assert_close(grown(G, resolution, True, alpha=0)(z, c), nearest(previous))
    torch.testing.assert_close(grown(G, resolution, True, alpha=1)(z, c), finished)
    img = images(D.grow(resolution, False) or D)
    finished, previous = D(img), grown(D, resolution // 2, False)(box(img))
    torch.testing.assert_close(grown(D, resolution, True, alpha=0)(img), previous)
    torch.testing.assert_close(grown(D, resolution, True, alpha=1)(img), finished)


@pytest.mark.parametrize(("resolution", "fading"), STAGES)
def test_a_stage_trains_the_blocks_that_run_and_no_other(resolution, fading):
    G, D = grown(make_G(), resolution, fading), grown(make_D(), resolution, fading)
    scores, logits = D(G(*latents()), return_logits=True)
    (scores.sum() + logits.square().sum()).backward()
    for network, image_layer in ((G, "torgb"), (D, "fromrgb")):
        for name, parameter in network.named_parameters():
            block, layer = int(name.split(".")[0][1:]), name.split(".")[1]
            shown = (resolution, resolution // 2) if fading else (resolution,)
            runs = block in shown if layer == image_layer else block <= resolution
            assert (parameter.grad is not None and bool(parameter.grad.any())) == runs, name


def test_networks_are_fully_grown_at_the_start_and_the_fade_is_a_buffer():
    G, D = make_G(32), make_D(32)
    for network in (G, D):
        assert (network.resolution, network.fading) == (32, False)
        assert network.alpha.shape == ()
        assert network.alpha.dtype == torch.float32
        assert network.alpha.item() == 1
    assert copy.deepcopy(grown(G, 8, True)).resolution == 8


def test_one_compiled_graph_follows_the_whole_fade():
    """The host that read alpha would break the graph; a graph that had it as a constant would not follow."""
    torch._dynamo.reset()
    G, D = grown(make_G(8), 8, True), grown(make_D(8), 8, True)

    def scores(z, c):
        return D(G(z, c), c)

    compiled = torch.compile(scores, fullgraph=True, backend="aot_eager")
    for alpha in (0.2, 0.9):
        for network in (G, D):
            network.alpha.fill_(alpha)
        results = []
        for function in (scores, compiled):
            y = function(*latents())
            results.append([y, *torch.autograd.grad(y.sum(), [*G.parameters(), *D.parameters()], allow_unused=True)])
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


# --- Whole steps on the kernels equal those in plain PyTorch


def G_step(G, D, dtype, seed):
    z, c = latents(8, dtype=dtype, seed=seed)
    scores, logits = D(G(z, c), c, return_logits=True)
    return -scores.mean() + F.cross_entropy(logits, c), G


def D_step(G, D, dtype, seed):
    """WGAN-GP, second order, with the drift term."""
    z, c = latents(8, dtype=dtype, seed=seed)
    fake, real = G(z, c).detach(), images(D, 8, dtype, seed)
    fake_scores, real_scores = D(fake, c), D(real, c)
    between = torch.lerp(real, fake, torch.linspace(0, 1, 8, dtype=dtype)[:, None, None, None])
    penalty = gankern.wgan_gp_penalty(D, between, between, c)  # whose random place is the same in every precision
    return (fake_scores - real_scores + 10 * penalty[:, None] + 0.001 * real_scores.square()).mean(), D


def run(step, backend, dtype, resolution, fading, seed=0, fused_scale=True):
    """The loss and every parameter's gradient by name."""
    precision = {"num_fp16_res": 9, "lowp_dtype": torch.bfloat16} if dtype == torch.bfloat16 else {}
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    options = {"fmap_base": 1024, "fmap_max": 40, **precision}  # wide enough for the fast convolutions
    G = grown(make_G(**options), resolution, fading).to(wide)
    D = grown(make_D(**options, fused_scale=fused_scale), resolution, fading).to(wide)
    with gankern.use_backend(backend):
        loss, network = step(G, D, wide, seed)
        gradients = torch.autograd.grad(loss, list(network.parameters()), materialize_grads=True)
    names = [name for name, _ in network.named_parameters()]
    return {"loss": loss.detach(), **dict(zip(names, gradients, strict=True))}


@pytest.mark.parametrize(("resolution", "fading"), STAGES)
@pytest.mark.parametrize(("step", "fused_scale"), [(G_step, True), (D_step, True), (D_step, False)])
def test_a_step_equals_eagers_in_every_gradient(step, fused_scale, resolution, fading):
    options = {"resolution": resolution, "fading": fading, "fused_scale": fused_scale}
    exact, actual = (run(step, backend, torch.float64, **options) for backend in ("eager", BACKEND))
    for name, value in exact.items():
        atol = 1e-9 * value.abs().max().item()
        torch.testing.assert_close(actual[name], value, rtol=1e-9, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


# The slack beside twice eager's own error is relative to the gradient: for where eager happens to be exact.
@pytest.mark.parametrize(
    ("dtype", "slack", "batches"), [(torch.float32, 1e-5, 1), (torch.bfloat16, 4e-3, 6)], ids=["fp32", "bf16"]
)
@pytest.mark.parametrize("step", [G_step, D_step])
def test_a_step_errs_at_most_twice_as_much_as_eager(step, dtype, slack, batches):
    """Summed over all stages and some batches: D's gradients jump where rounding turns the sign of an activation."""
    squares = defaultdict(lambda: torch.zeros([3], dtype=torch.float64))  # of both errors and of the truth, by name
    for resolution, fading in STAGES:
        for seed in range(batches):
            place = (resolution, fading, seed)
            exact = run(step, "eager", torch.float64, *place)
            eager, actual = (run(step, backend, dtype, *place) for backend in ("eager", BACKEND))
            for name, value in exact.items():
                parts = actual[name] - value, eager[name] - value, value
                squares[name] += torch.stack([part.square().sum() for part in parts])
    for name, sums in squares.items():
        error, eagers_error, value = sums.sqrt().tolist()
        assert error <= 2 * eagers_error + slack * value, name


# --- Options


def test_the_label_matters_to_both_networks():
    G, D = make_G(), make_D()
    z, c = latents()
    assert (G(z, c) - G(z, c.roll(1, 0))).abs().max() > 1e-3
    scores, logits = D(images(D), c, return_logits=True)
    assert torch.equal(scores, D(images(D), c.roll(1, 0)))  # the label is D's to tell, not to know
    assert (scores.shape, logits.shape) == ((4, 1), (4, 3))
    assert D(images(D)).shape == (4, 1)


def test_the_two_orders_of_downsampling_differ():
    fused, unfused = make_D(fused_scale=True), make_D(fused_scale=False)
    assert (fused(images(fused)) - unfused(images(fused))).abs().max() > 1e-2


@pytest.mark.parametrize(("resolution", "fading"), STAGES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_low_precision_is_close_and_its_results_are_float32(dtype, resolution, fading):
    low = {"num_fp16_res": 9, "lowp_dtype": dtype}
    networks = [grown(network, resolution, fading) for network in (make_G(), make_G(**low), make_D(), make_D(**low))]
    G, low_G, D, low_D = networks
    img = images(D)
    for exact, y in ((G(*latents()), low_G(*latents())), (D(img), low_D(img))):
        assert y.dtype == torch.float32
        assert (y - exact).abs().max() < 0.1 * exact.abs().max()
        assert torch.equal(y, exact) == (resolution == 4)


def test_low_precision_reaches_the_highest_resolutions_only():
    with torch.device("meta"):
        networks = Generator(512, 0, 64, 3, num_fp16_res=2), Discriminator(0, 64, 3, num_fp16_res=2)
    for network in networks:
        low = [res for res in network.block_resolutions[1:] if network.block(res).lowp_dtype]
        assert low == [32, 64]


@pytest.mark.parametrize("img_channels", [1, 3])
@pytest.mark.parametrize(("resolution", "fading"), STAGES)
def test_channels_last_stays_channels_last(resolution, fading, img_channels):
    formats = []
    for make in (make_G, make_D):
        network, plain = make(16, 3, img_channels, channels_last=True), make(16, 3, img_channels)
        for module in network.modules():
            if isinstance(module, gankern.nn.EqualizedConv2d) and module.weight.shape[2] == 3:
                module.register_forward_hook(
                    lambda _, __, y: formats.append(y.is_contiguous(memory_format=torch.channels_last))
                )
        inputs = latents() if make is make_G else [images(grown(network, resolution, fading))]
        y, truth = (grown(net, resolution, fading)(*inputs) for net in (network, plain))
        torch.testing.assert_close(y, truth, rtol=1e-4, atol=1e-4)
    assert formats
    assert all(formats)


def test_copies_are_independent():
    G = make_G()
    G_ema = copy.deepcopy(grown(G, 8, True))
    gankern.ema_update(G_ema, grown(G, 8, True, alpha=0.8), 0.999)
    assert G_ema.alpha.item() == pytest.approx(0.8)  # the average is at the same point of the fade
    assert G_ema.b4.bias.data_ptr() != G.b4.bias.data_ptr()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_G(24), "img_resolution must be a power of two, at least 4, got 24"),
        (lambda: make_D(2), "img_resolution must be a power of two, at least 4, got 2"),
        (lambda: make_G(8, base_size=(4, 0)), r"base_size must be \(height, width\), each at least 1, got \(4, 0\)"),
        (lambda: make_G(16).grow(32, False), "resolution must be one of 4, 8, 16, got 32"),
        (lambda: make_D(16).grow(12, True), "resolution must be one of 4, 8, 16, got 12"),
        (lambda: make_D(16).grow(4, True), "fading must be False at resolution 4, .* got True"),
        (lambda: make_G(8)(torch.zeros([4, 5])), r"z must have shape \[N, 10\], got \[4, 5\]"),
        (lambda: make_G(8)(latents()[0]), r"c must have shape \[N, 3\], got None"),
        (lambda: make_D(8)(torch.zeros([4, 3, 4, 4])), r"img must have shape \[N, 3, 8, 8\], got \[4, 3, 4, 4\]"),
        (lambda: make_D(8, 0)(torch.zeros([4, 3, 8, 8]), None, True), "return_logits must be False without labels"),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
