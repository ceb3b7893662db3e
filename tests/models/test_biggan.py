"""BigGAN and BigGAN-deep: the published names, sizes and numbers, and what batch statistics do across processes."""

from __future__ import annotations

import contextlib
import copy
import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import gankern
from bench.models import biggan_eager
from gankern.models.biggan import Discriminator, Generator
from gankern.models.resnet import discriminator_stages, generator_stages
from gankern.nn import standing_statistics, synchronise_batch_norm

CLASSES = 5
KINDS = pytest.mark.parametrize("deep", [False, True], ids=["biggan", "deep"])


def make(
    deep=False, resolution=64, ch=4, dtype=torch.float64, attention=(16,), c_dim=CLASSES, img_channels=3, **kwargs
):
    """G and D that have forgotten their initial zeros and ones."""
    torch.manual_seed(3)
    options = {"ch": ch, "deep": deep, "attention": attention, **kwargs}
    z_dim = 2 * (len(generator_stages(resolution, ch)) + 1)
    G = Generator(z_dim, c_dim, resolution, img_channels, shared_dim=6, **options)
    D = Discriminator(c_dim, resolution, img_channels, **options)
    with torch.no_grad():
        for net in (G, D):
            for name, parameter in net.named_parameters():
                if name.endswith(("gamma", "output_layer.0.gain", "bias")):
                    parameter.add_(0.3 * torch.randn_like(parameter))
            for name, buffer in net.named_buffers():
                if "stored" in name:
                    buffer.add_(torch.rand_like(buffer))
    return G.to(dtype), D.to(dtype)


def batch(G, n=4, dtype=torch.float64):
    torch.manual_seed(4)
    c = torch.eye(CLASSES, dtype=dtype)[torch.arange(n) % CLASSES]
    side = [G.img_resolution * b // 4 for b in G.base_size]
    return torch.randn([n, G.z_dim], dtype=dtype), c, torch.rand([n, G.img_channels, *side], dtype=dtype) * 2 - 1


def iteration(G, D, z, c, img, backend=None):
    """A D step's and a G step's losses and gradients, and all buffers after them."""
    with gankern.use_backend(backend) if backend else contextlib.nullcontext():
        with torch.no_grad():
            fake = G(z, c)
        scores = D(torch.cat([fake, img]), torch.cat([c, c]))
        on_fake, on_real = scores.chunk(2)
        D_loss = (1 + on_fake).relu().mean() + (1 - on_real).relu().mean()
        D_gradients = torch.autograd.grad(D_loss, list(D.parameters()))
        fake = G(z, c)
        G_loss = -D(fake, c).mean()
        G_gradients = torch.autograd.grad(G_loss, list(G.parameters()))
    buffers = [b.clone() for net in (G, D) for b in net.state_dict().values()]
    return [fake.detach(), D_loss.detach(), G_loss.detach(), *D_gradients, *G_gradients, *buffers]


# --- The published sizes and names


@pytest.mark.parametrize(
    ("resolution", "ch", "z_dim", "options", "G_millions", "D_millions"),
    [
        (128, 96, 120, {}, 70.43, 87.98),
        (256, 96, 140, {"attention": (128,)}, 82.10, 99.19),
        (512, 96, 128, {}, 82.30, None),
        (128, 64, 120, {}, 31.98, 39.45),
        (128, 128, 128, {"deep": True}, 50.24, 34.59),
        (256, 128, 128, {"deep": True}, 55.74, 38.25),
    ],
)
def test_the_networks_have_the_published_sizes(resolution, ch, z_dim, options, G_millions, D_millions):
    with torch.device("meta"):
        G = Generator(z_dim, 1000, resolution, 3, ch=ch, **options)
        D = Discriminator(1000, resolution, 3, ch=ch, **options)
    assert round(sum(p.numel() for p in G.parameters()) / 1e6, 2) == G_millions
    if D_millions is not None:
        assert round(sum(p.numel() for p in D.parameters()) / 1e6, 2) == D_millions


def test_cifar_has_the_published_sizes_with_embeddings_in_every_normalisation():
    with torch.device("meta"):
        G = Generator(128, 10, 32, 3, ch=64, hier=False, shared_dim=0)
        D = Discriminator(10, 32, 3, ch=64)
    assert round(sum(p.numel() for p in G.parameters()) / 1e6, 2) == 4.30
    assert round(sum(p.numel() for p in D.parameters()) / 1e6, 2) == 4.21
    state = G.state_dict()
    assert state["blocks.0.0.bn1.gain.weight"].shape == (10, 256)
    assert "blocks.0.0.bn1.gain.u0" not in state
    assert "shared.weight" not in state


def normalised(name, bias=True):
    return {f"{name}.{part}" for part in ("weight", "u0", "sv0", *(["bias"] if bias else []))}


def conditional(name):
    keys = normalised(f"{name}.gain", False) | normalised(f"{name}.bias", False)
    return keys | {f"{name}.stored_mean", f"{name}.stored_var"}


def attention(name):
    return {f"{name}.gamma"}.union(*(normalised(f"{name}.{part}", False) for part in ("theta", "phi", "g", "o")))


def published_G(deep, stages, attention_after):
    """The published layout: every block in a list of its own, attention behind the last of a stage."""
    keys = {"shared.weight", *normalised("linear"), *normalised("output_layer.2")}
    keys |= {f"output_layer.0.{part}" for part in ("gain", "bias", "stored_mean", "stored_var")}
    per_stage, layers = (2, 4) if deep else (1, 2)
    for i in range(stages * per_stage):
        for k in range(1, layers + 1):
            keys |= normalised(f"blocks.{i}.0.conv{k}") | conditional(f"blocks.{i}.0.bn{k}")
        keys |= set() if deep else normalised(f"blocks.{i}.0.conv_sc")
    return keys | attention(f"blocks.{attention_after * per_stage + per_stage - 1}.1")


def published_D(deep, stages, attention_after, with_shortcut):
    """Here a list holds all blocks of a stage, and the attention behind them."""
    keys = normalised("linear") | normalised("embed", False) | (normalised("input_conv") if deep else set())
    per_stage, layers = (2, 4) if deep else (1, 2)
    for i in range(stages):
        for d in range(per_stage):
            keys = keys.union(*(normalised(f"blocks.{i}.{d}.conv{k}") for k in range(1, layers + 1)))
        keys |= normalised(f"blocks.{i}.0.conv_sc") if i in with_shortcut else set()
    return keys | attention(f"blocks.{attention_after}.{per_stage}")


@KINDS
def test_the_state_dicts_have_the_published_names(deep):
    with torch.device("meta"):
        G = Generator(120, 1000, 128, 3, ch=16, deep=deep)
        D = Discriminator(1000, 128, 3, ch=16, deep=deep)
    assert set(G.state_dict()) == published_G(deep, 5, 3)
    D_shortcuts = range(4) if deep else range(5)  # from a stage to one as wide there is none without pooling
    assert set(D.state_dict()) == published_D(deep, 5 if deep else 6, 0, D_shortcuts)
    if not deep:
        assert (len(G.state_dict()), len(D.state_dict())) == (166, 88)
    assert G.state_dict()["linear.u0"].shape == (1, 16 * 16 * 16)
    assert G.state_dict()["shared.weight"].shape == (1000, 128)
    assert D.state_dict()["embed.u0"].shape == (1, 1000)
    assert D.state_dict()["blocks.0.2.gamma" if deep else "blocks.0.1.gamma"].shape == ()


# --- The published numbers


@KINDS
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_the_networks_equal_the_published_formulation(deep, training):
    """Layer by layer, upsampling before the convolution and pooling after it; gradients and vectors included."""
    G, D = (net.train(training) for net in make(deep))
    stages = generator_stages(64, 4), discriminator_stages(64, 4, None if deep else 3)
    sizes = tuple([stage[:3] for stage in of_net] for of_net in stages)
    after = tuple([k for k, stage in enumerate(of_net) if stage.resolution == 16] for of_net in stages)
    same = biggan_eager.like(G, D, sizes, after)
    inputs = batch(G)
    for actual, expected in zip(iteration(G, D, *inputs)[:3], iteration(*same, *inputs)[:3], strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-11)
    for net, other in zip((G, D), same, strict=True):  # the vectors moved on, the same way
        for name, value in other.state_dict().items():
            torch.testing.assert_close(net.state_dict()[name], value, rtol=1e-9, atol=1e-11, msg=name)
        loss, expected = (n(*inputs[:2]) if net is G else n(inputs[2], inputs[1]) for n in (net, other))
        loss.square().sum().backward()
        expected.square().sum().backward()
        gradients = {name: p.grad for name, p in other.named_parameters()}
        for name, p in net.named_parameters():
            torch.testing.assert_close(p.grad, gradients[name], rtol=1e-7, atol=1e-9, msg=name)


@KINDS
@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("of", ["fp64-NCHW", "fp32-NCHW", "fp32-channels_last"])
@pytest.mark.kernels
def test_an_iteration_is_the_same_on_every_backend(deep, mode, of, backend, device):
    """Images, losses, all gradients of a D and of a G step, and all buffers after them."""
    options = {"dtype": torch.float64} if "fp64" in of else {"dtype": torch.float32, "resolution": 32, "ch": 8}
    G, D = make(deep, channels_last="channels_last" in of, **options)
    G, D = (net.to(device).train(mode == "training") for net in (G, D))
    inputs = [t.to(device) for t in batch(G, dtype=options["dtype"])]
    expected = iteration(copy.deepcopy(G), copy.deepcopy(D), *inputs, backend="eager")
    actual = iteration(G, D, *inputs)
    rtol = 1e-9 if "fp64" in of else 1e-3
    for value, same in zip(actual, expected, strict=True):
        # A bias before a batch normalisation has the gradient 0: what it is instead, is rounding, some times that of a
        # direct convolution where Winograd's algorithm is used.
        largest = same.abs().max().item()
        atol = rtol * (5e-2 if largest < 0.1 * rtol else max(1e-2, largest))
        torch.testing.assert_close(value, same, rtol=rtol, atol=atol)


@KINDS
@pytest.mark.kernels
def test_in_bf16_the_error_is_at_most_twice_that_of_eager(deep, backend, device):
    """Over all tensors of an iteration, each relative to its own size: of one alone, it is a matter of chance."""
    exact, lowp = (make(deep, 32, 8, torch.float32, lowp_dtype=dtype) for dtype in (None, torch.bfloat16))
    for net in (*exact, *lowp):
        net.to(device)
    inputs = [t.to(device) for t in batch(exact[0], dtype=torch.float32)]
    right = iteration(*exact, *inputs, backend="eager")
    eager = iteration(*copy.deepcopy(lowp), *inputs, backend="eager")
    actual = iteration(*lowp, *inputs)
    assert all(p.dtype == torch.float32 for net in lowp for p in net.parameters())
    assert all(value.dtype == torch.float32 for value in actual)
    sizes = [r.norm() for r in right]
    known = [i for i, size in enumerate(sizes) if size > 1e-3]  # without the gradients that are 0 but for rounding
    assert len(known) > 0.8 * len(sizes)
    error, of_eager = (sum((v[i] - right[i]).norm().div(sizes[i]) ** 2 for i in known) for v in (actual, eager))
    assert error.sqrt() <= 2 * of_eager.sqrt()


@pytest.mark.kernels
def test_a_gradient_penalty_through_D_is_the_same_on_every_backend(backend, device):
    _, D = make()
    _, c, img = batch(make()[0])
    results = []
    for forced in (backend, "eager"):
        net = copy.deepcopy(D).to(device)
        with gankern.use_backend(forced):
            penalty = gankern.r1_penalty(net, img.to(device), c.to(device)).mean()
            results.append([penalty.detach(), *torch.autograd.grad(penalty, list(net.parameters()), allow_unused=True)])
    assert sum(g is not None for g in results[0]) > len(results[0]) / 2
    for actual, expected in zip(*results, strict=True):
        assert (actual is None) == (expected is None)
        if actual is not None:
            torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-10)


def test_a_gradient_penalty_is_that_of_the_published_formulation():
    G, D = make()
    _, c, img = batch(G)
    sizes = tuple([s[:3] for s in stages] for stages in (generator_stages(64, 4), discriminator_stages(64, 4, 3)))
    _, same = biggan_eager.like(G, D, sizes, ([1], [1]))
    penalties = [gankern.r1_penalty(net, img, c).mean() for net in (D, same)]
    torch.testing.assert_close(*penalties, rtol=1e-9, atol=0)
    found = [
        dict(zip(dict(net.named_parameters()), torch.autograd.grad(p, list(net.parameters()), allow_unused=True)))
        for net, p in zip((D, same), penalties, strict=True)
    ]
    for name, value in found[1].items():
        if value is not None:
            torch.testing.assert_close(found[0][name], value, rtol=1e-7, atol=1e-9, msg=name)


def test_only_the_output_forgets_bn_eps_where_the_published_code_does():
    options = {"z_dim": 8, "c_dim": 3, "img_resolution": 32, "img_channels": 3, "ch": 8, "bn_eps": 1e-4}
    with torch.device("meta"):
        G, other = Generator(**options, output_bn_eps=1e-5), Generator(**options)
    assert {bn.eps for bn in (G.blocks[0][0].bn1, G.blocks[-1][0].bn2)} == {1e-4}
    assert G.output_layer[0].eps == 1e-5
    assert other.output_layer[0].eps == 1e-4


# --- Shapes, labels, copies


@pytest.mark.parametrize("base_size", [(6, 6), (3, 5)])
@pytest.mark.parametrize("deep", [False, True])
def test_other_sizes_need_no_tables(base_size, deep):
    G = Generator(8, CLASSES, 32, 3, ch=8, deep=deep, shared_dim=6, attention=(16,), base_size=base_size).double()
    D = Discriminator(CLASSES, 32, 3, ch=8, deep=deep, attention=(16,)).double()
    z, c, _ = batch(G)
    img = G(z, c)
    assert img.shape == (4, 3, 8 * base_size[0], 8 * base_size[1])
    assert D(img, c).shape == (4, 1)


@pytest.mark.parametrize("resolution", [32, 64, 128, 256, 512])
@pytest.mark.parametrize("deep", [False, True])
def test_every_published_resolution_gives_images_of_its_size(resolution, deep):
    with torch.device("meta"):
        G = Generator(8 * (resolution.bit_length() - 2) * 2, 10, resolution, 1, ch=8, deep=deep)
        D = Discriminator(10, resolution, 1, ch=8, deep=deep)
        img = G(torch.zeros([2, G.z_dim]), torch.zeros([2, 10]))
        assert img.shape == (2, 1, resolution, resolution)
        assert D(img, torch.zeros([2, 10])).shape == (2, 1)


def test_attention_may_be_at_several_resolutions_and_at_none():
    G, D = make(attention=(16, 32), ch=8)
    found = {name for name, _ in (*G.named_modules(), *D.named_modules()) if name.endswith(".theta")}
    assert found == {"blocks.1.1.theta", "blocks.2.1.theta", "blocks.0.1.theta"}
    G, D = make(attention=())
    assert not [name for name, _ in (*G.named_modules(), *D.named_modules()) if name.endswith(".theta")]


@pytest.mark.parametrize("options", [{}, {"hier": False}])
def test_networks_without_classes(options):
    G = Generator(8, 0, 32, 3, ch=8, attention=(), **options)
    D = Discriminator(0, 32, 3, ch=8, attention=())
    assert D(G(torch.randn([3, 8]))).shape == (3, 1)
    assert not [name for name in (*G.state_dict(), *D.state_dict()) if name.startswith(("shared", "embed"))]


def test_a_mixture_of_classes_mixes_their_embeddings():
    G = make()[0].eval()
    z, c, _ = batch(G, 2)
    mixed = c[:1] * 0.25 + c[1:] * 0.75
    y = G.shared(c)
    torch.testing.assert_close(G.shared(mixed), y[:1] * 0.25 + y[1:] * 0.75)
    assert G(z[:1], mixed).isfinite().all()


def test_channels_last_stays_so_for_grey_images_too():
    for img_channels in (1, 3):
        G, D = make(img_channels=img_channels, channels_last=True, dtype=torch.float32, resolution=32, ch=8)
        features = []
        for stage in (*G.blocks, *D.blocks):
            stage[-1].register_forward_hook(lambda module, args, y, kept=features: kept.append(y))
        z, c, _ = batch(G, dtype=torch.float32)
        D(G(z, c), c)
        of_image = 1 if img_channels == 1 else 0  # D's first block sees one channel, in whatever format
        in_G, in_D = features[: len(G.blocks)], features[len(G.blocks) + of_image :]
        assert all(y.is_contiguous(memory_format=torch.channels_last) for y in (*in_G, *in_D))


def test_a_copy_is_independent_and_normalises_its_own_weights():
    G, _ = make()
    other = copy.deepcopy(G)
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(2)
    before = {name: t.clone() for name, t in G.state_dict().items()}
    z, c, _ = batch(G)
    other(z, c)
    for name, value in G.state_dict().items():
        assert torch.equal(value, before[name]), name
    other.load_state_dict(G.state_dict(), strict=True)
    assert torch.equal(other.eval()(z, c), G.eval()(z, c))


@pytest.mark.parametrize("init", ["ortho", "N02", "xavier"])
def test_initial_weights(init):
    torch.manual_seed(0)
    weight = Generator(120, 10, 128, 3, ch=8, init=init).blocks[1][0].conv2.weight.detach().flatten(1)  # [64, 576]
    if init == "ortho":
        torch.testing.assert_close(weight @ weight.T, torch.eye(64), rtol=0, atol=1e-4)
    else:
        assert weight.std().item() == pytest.approx(0.02 if init == "N02" else (1 / (9 * 64)) ** 0.5, rel=0.02)


# --- Statistics


def test_standing_statistics_are_averages_over_batches_and_leave_the_rest():
    G, _ = make()
    z, c, _ = batch(G, 12)
    batches = list(zip(z.split(4), c.split(4), strict=True))
    before = {name: t.clone() for name, t in G.state_dict().items()}
    seen = []
    hook = G.output_layer[0].register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    standing_statistics(G, batches)
    hook.remove()
    stored = G.output_layer[0]
    torch.testing.assert_close(stored.stored_mean, torch.stack([x.mean([0, 2, 3]) for x in seen]).mean(0))
    torch.testing.assert_close(stored.stored_var, torch.stack([x.var([0, 2, 3]) for x in seen]).mean(0))
    changed = {name for name, t in G.state_dict().items() if not torch.equal(t, before[name])}
    assert {name.rpartition(".")[2] for name in changed} == {"stored_mean", "stored_var"}
    assert all(m.training for m in G.modules())
    mean = stored.stored_mean.clone()
    G(z, c)  # from here on they run on as before
    assert 0 < (stored.stored_mean - mean).norm() < 0.5 * mean.norm()


def rank_results(G, z, c):
    """Images, gradients and statistics in training; in evaluation; and standing."""
    img = G(z, c)
    (img.square().sum() + img.sum()).backward()
    found = {"training": img.detach(), "gradients": [p.grad for p in G.parameters()]}
    found |= {"stored": [b.clone() for name, b in G.named_buffers() if "stored" in name]}
    standing_statistics(G, [(z, c), (-z, c)])
    found |= {"standing": [b.clone() for name, b in G.named_buffers() if "stored" in name]}
    return found | {"evaluation": G.eval()(z, c).detach()}


def one_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/ranks", rank=rank, world_size=2)
    G, _ = make(resolution=32)
    G.load_state_dict(torch.load(folder / "G.pt"))  # what is drawn is not the same to the last bit everywhere
    synchronise_batch_norm(G, dist.group.WORLD)
    assert copy.deepcopy(G).output_layer[0].process_group is None
    part = slice(0, 3) if rank == 0 else slice(3, 5)
    z, c, _ = batch(G, 5)
    torch.save(rank_results(G, z[part], c[part]), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="this torch has no gloo")
def test_two_processes_with_a_part_of_the_batch_each_are_one_with_all_of_it(tmp_path):
    G, _ = make(resolution=32)
    torch.save(G.state_dict(), tmp_path / "G.pt")
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=one_rank, args=(rank, tmp_path), daemon=True) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    expected = rank_results(G, *batch(G, 5)[:2])
    close = {"rtol": 1e-8, "atol": 1e-9}
    for mode in ("training", "evaluation"):
        torch.testing.assert_close(torch.cat([r[mode] for r in ranks]), expected[mode], **close)
    for one, other, gradient in zip(*(r["gradients"] for r in ranks), expected["gradients"], strict=True):
        torch.testing.assert_close(one + other, gradient, **close)
    for statistics in ("stored", "standing"):
        for rank in ranks:
            for actual, value in zip(rank[statistics], expected[statistics], strict=True):
                torch.testing.assert_close(actual, value, **close)


# --- Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"img_resolution": 96}, "img_resolution must be one of 32, 64, 128, 256, 512 .*, got 96"),
        ({"z_dim": 18}, "z_dim must be a multiple of 4, one part per block and one more, got 18"),
        ({"shared_dim": 0}, "shared_dim must be positive for hier=True, got 0"),
        ({"deep": True, "hier": False}, "hier must be True for deep=True, got False"),
        ({"depth": 2}, "depth must be 1 for deep=False, got 2"),
        ({"attention": (24,)}, r"attention must name powers of two from 8 to 32, got \[24\]"),
        ({"init": "he"}, "init must be one of ortho, N02, xavier, got 'he'"),
        ({"num_svs": 0}, "num_svs must be at least 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Generator(**{"z_dim": 8, "c_dim": 3, "img_resolution": 32, "img_channels": 3, "ch": 8, **options})


def test_inputs_that_do_not_fit_are_refused():
    G, D = make()
    z, c, img = batch(G)
    with pytest.raises(ValueError, match=r"z must have shape \[N, 10\], got \[4, 9\]"):
        G(z[:, :-1], c)
    with pytest.raises(ValueError, match=r"c must have shape \[N, 5\], got None"):
        G(z)
    with pytest.raises(ValueError, match=r"c must have shape \[N, 5\], got \[4, 2\]"):
        D(img, c[:, :2])
    with pytest.raises(ValueError, match=r"img must have shape \[N, 3, H, W\], got \[4, 1, 64, 64\]"):
        D(img[:, :1], c)
