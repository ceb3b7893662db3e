"""SAGAN, SNGAN and Self-Modulation: what each paper's networks are made of."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

import gankern
from gankern.models.sagan import Discriminator, Generator


def count(net, part):
    return len([name for name, _ in net.named_modules() if name.endswith(part)])


def channels_of(net, conv):
    return [getattr(stage[0], conv).weight.shape[:2] for stage in net.blocks]


def labels(n, c_dim):
    return torch.eye(c_dim)[torch.arange(n) % c_dim]


def test_sagan_at_128_has_the_published_widths_and_normalises_everything():
    with torch.device("meta"):
        G, D = Generator(128, 1000, 128, 3), Discriminator(1000, 128, 3)
    assert channels_of(G, "conv1") == [(1024, 1024), (512, 1024), (256, 512), (128, 256), (64, 128)]
    assert channels_of(D, "conv2") == [(64, 64), (128, 128), (256, 256), (512, 512), (1024, 1024), (1024, 1024)]
    assert (count(G, "gamma"), count(G, "theta"), count(D, "theta")) == (0, 1, 1)
    assert G.blocks[3][1].theta.in_channels == 128  # at 64
    assert D.blocks[0][1].theta.in_channels == 64
    weights = [name for name, p in G.named_parameters() if p.ndim > 1 and ".bn" not in name]
    assert all(f"{name.removesuffix('weight')}u0" in G.state_dict() for name in weights)
    assert G.state_dict()["blocks.0.0.bn1.gain.weight"].shape == (1000, 1024)


def test_sngan_normalises_only_the_discriminator_whose_blocks_are_narrow_inside():
    with torch.device("meta"):
        G = Generator(128, 1000, 128, 3, attention=(), spectral_norm=False)
        D = Discriminator(1000, 128, 3, attention=(), wide=False)
    assert not [name for name in G.state_dict() if name.endswith("u0")]
    assert channels_of(D, "conv1") == [(64, 3), (64, 64), (128, 128), (256, 256), (512, 512), (1024, 1024)]
    assert channels_of(D, "conv2") == [(64, 64), (128, 64), (256, 128), (512, 256), (1024, 512), (1024, 1024)]


def test_sngan_on_cifar_is_256_wide_in_G_and_128_in_D_without_classes():
    with torch.device("meta"):
        G = Generator(128, 0, 32, 3, attention=(), spectral_norm=False)
        D = Discriminator(0, 32, 3, ch=32, attention=(), wide=False)
    assert channels_of(G, "conv2") == [(256, 256)] * 3
    assert channels_of(D, "conv2") == [(128, 128)] * 4
    assert [stage[0].down for stage in D.blocks] == [True, True, False, False]
    assert G.state_dict()["blocks.0.0.bn1.gain"].shape == (256,)
    assert G.linear.weight.shape == (4 * 4 * 256, 128)


def test_self_modulation_makes_gain_and_bias_of_z_by_a_perceptron():
    G = Generator(6, 0, 32, 3, ch=8, modulation="self", hidden=5, attention=(), spectral_norm=False).eval()
    bn = G.blocks[0][0].bn1
    z, x = torch.randn([4, 6]), torch.randn([4, 32, 4, 4])
    state = G.state_dict()

    def perceptron(name):
        first, second = (state[f"blocks.0.0.bn1.{name}.{i}.weight"] for i in (0, 2))
        return F.relu(z @ first.T + state[f"blocks.0.0.bn1.{name}.0.bias"]) @ second.T

    gain, bias = (perceptron(name)[:, :, None, None] for name in ("gain", "bias"))
    y = F.relu((1 + gain) * x / (1 + 1e-5) ** 0.5 + bias)
    torch.testing.assert_close(bn(x, z), F.interpolate(y, scale_factor=2))
    assert G(z).shape == (4, 3, 32, 32)


def test_self_modulation_sees_classes_beside_z():
    G = Generator(6, 3, 32, 3, ch=8, modulation="self", attention=())
    assert G.blocks[0][0].bn1.gain[0].in_features == 9
    z = torch.randn([2, 6]).repeat(2, 1)
    img = G.eval()(z, labels(4, 3)[[0, 0, 1, 1]])
    assert not torch.allclose(img[0], img[2])


@pytest.mark.kernels
@pytest.mark.parametrize("modulation", ["class", "self", "none"])
@pytest.mark.parametrize("sngan", [False, True])
def test_an_iteration_is_the_same_on_every_backend(modulation, sngan, backend, device):
    torch.manual_seed(1)
    options = {"attention": () if sngan else (16,), "ch": 4}
    G = Generator(6, 3, 32, 3, modulation=modulation, spectral_norm=not sngan, **options).double().to(device)
    D = Discriminator(3, 32, 3, wide=not sngan, **options).double().to(device)
    with torch.no_grad():
        for net in (G, D):
            for p in net.parameters():
                p.add_(0.1 * torch.randn_like(p))  # gamma is 0 at first
    z, c = torch.randn([4, 6]).double().to(device), labels(4, 3).double().to(device)
    results = []
    for forced in (backend, "eager"):
        nets = [copy.deepcopy(net) for net in (G, D)]
        with gankern.use_backend(forced):
            img = nets[0](z, c)
            loss = F.softplus(-nets[1](img, c)).sum()
            parameters = [p for net in nets for p in net.parameters()]
            gradients = torch.autograd.grad(loss, parameters)
        buffers = [b for net in nets for b in net.buffers()]
        results.append([img, loss, *gradients, *buffers])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modulation": "style"}, "modulation must be one of class, self, none for c_dim=3, got 'style'"),
        ({"c_dim": 0, "modulation": "class"}, "modulation must be one of self, none for c_dim=0, got 'class'"),
        ({"img_resolution": 48}, "img_resolution must be one of 32, 64, 128, 256, 512"),
        ({"ch": 1, "attention": (8,)}, "channels must be at least 8, got 4"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Generator(**{"z_dim": 8, "c_dim": 3, "img_resolution": 32, "img_channels": 3, "ch": 8, **options})
