"""Which routine computes a convolution, how accurate it is, and that it reads the weights of the moment."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gankern
from gankern import convolution

pytestmark = pytest.mark.skipif(not convolution._is_built(), reason="the native backend is not built")


@pytest.fixture
def winograds(monkeypatch):
    """A list with an item for each call of Winograd's kernel."""
    seen, kernel = [], torch.ops.gankern.winograd_conv2d
    monkeypatch.setattr(torch.ops.gankern, "winograd_conv2d", lambda *inputs: seen.append(inputs) or kernel(*inputs))
    return seen


def image():
    return torch.randn(4, 48, 8, 8, generator=torch.Generator().manual_seed(0))


def weight(o=48, i=48):
    return torch.nn.Parameter(torch.randn(o, i, 3, 3, generator=torch.Generator().manual_seed(1)))


def assert_fresh(w):
    """The convolution is that of the weights as they are now, not as they were."""
    found = gankern.conv2d(image(), w, padding=1)
    expected = torch.nn.functional.conv2d(image().double(), w.double(), padding=1)
    assert (found - expected).abs().max() < 2e-5 * expected.abs().max()


def by_sgd(w):
    optimiser = torch.optim.SGD([w], lr=0.1)
    gankern.conv2d(image(), w, padding=1).square().mean().backward()
    optimiser.step()


def by_fused_adam(w):
    optimiser = torch.optim.Adam([w], lr=0.1, fused=True)
    gankern.conv2d(image(), w, padding=1).square().mean().backward()
    optimiser.step()


def by_no_grad_index(w):
    with torch.no_grad():
        w[3, 1, 0, 2] += 1


def by_numpy(w):
    w.detach().numpy()[0, 0, 0, 0] += 1


def by_two_signs(w):
    w.data[0, 0, 0, 0] *= -1
    w.data[5, 0, 1, 0] *= -1


def by_exchange(w):
    w.data[[0, 1]] = w.data[[1, 0]]


def by_new_memory(w):
    w.data = w.data + 1


def by_a_buffer(w):
    np.frombuffer(w.data.numpy(), np.uint8)[3::4] ^= 0x80  # every sign, behind torch's back


CHANGES = [
    by_sgd,
    by_fused_adam,
    by_no_grad_index,
    lambda w: w.data.mul_(2),
    lambda w: w.detach().add_(1),
    lambda w: torch._foreach_mul_([w.data], 0.5),
    lambda w: w.data.view(-1)[::7].zero_(),
    lambda w: w.data.copy_(w.data.flip(0)),
    lambda w: w.data.view(torch.int32).bitwise_xor_(1 << 12),
    lambda w: torch.utils.dlpack.from_dlpack(w.detach()).mul_(3),
    lambda w: w.data.set_(torch.randn(48, 48, 3, 3)),
    lambda w: torch.nn.init.normal_(w),
    by_numpy,
    by_two_signs,
    by_exchange,
    by_new_memory,
    by_a_buffer,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__ if f.__name__ != "<lambda>" else "in_place")
def test_a_weight_that_was_changed_is_seen_by_the_next_call(change):
    w = weight()
    assert_fresh(w)
    change(w)
    assert_fresh(w)


def test_the_next_call_may_take_a_weight_transposed_or_in_another_type():
    w = torch.zeros(48, 48, 3, 3)
    w[0, 1] = 1
    assert_fresh(w)
    y = gankern.conv_transpose2d(image(), w, padding=1)
    assert (y - torch.nn.functional.conv_transpose2d(image(), w, padding=1)).abs().max() < 1e-4
    y = gankern.conv2d(image().bfloat16(), w.bfloat16(), padding=1).float()
    assert (y - torch.nn.functional.conv2d(image(), w, padding=1)).abs().max() < 0.1


def error(**options):
    x = torch.randn(4, 64, 32, 32, generator=torch.Generator().manual_seed(0))
    w = torch.randn(64, 64, 3, 3, generator=torch.Generator().manual_seed(1))
    exact = torch.nn.functional.conv2d(x.double(), w.double(), padding=1)
    return ((gankern.conv2d(x, w, padding=1, **options) - exact).abs().max() / exact.abs().max()).item()


def test_deterministic_algorithms_and_precise_convolve_directly(winograds):
    fast = error()
    assert len(winograds) == 1
    before = (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
    torch.use_deterministic_algorithms(True)
    try:
        deterministic = error()
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    precise = error(precise=True)
    assert len(winograds) == 1
    assert max(deterministic, precise) < 1e-6 < fast * 10


def test_a_precise_modulated_convolution_is_direct(winograds):
    x, w, styles = torch.randn(4, 64, 16, 16), torch.randn(64, 64, 3, 3), torch.randn(4, 64)
    fast = gankern.modulated_conv2d(x, w, styles, padding=1)
    assert len(winograds) == 1
    precise = gankern.modulated_conv2d(x, w, styles, padding=1, precise=True)
    assert len(winograds) == 1
    assert (fast - precise).abs().max() < 1e-4


@pytest.mark.parametrize("values", ["large mean", "one spike", "denormals"])
def test_inputs_that_are_hard_for_the_transforms_stay_within_the_bound(values):
    x = torch.randn(4, 64, 16, 16, generator=torch.Generator().manual_seed(0))
    x = {"large mean": x + 1000, "one spike": x, "denormals": x * 1e-40}[values]
    if values == "one spike":
        x[0, 0, 7, 7] = 1e6
    w = torch.randn(64, 64, 3, 3, generator=torch.Generator().manual_seed(1))
    exact = torch.nn.functional.conv2d(x.double(), w.double(), padding=1)
    found = gankern.conv2d(x, w, padding=1)
    quantum = 2.0**-149  # of denormals: what each of 64 * 9 products may lose, some times over in the transforms
    assert (found - exact).abs().max() <= 2e-5 * exact.abs().max() + 10 * 64 * 9 * quantum


# (input channels, output channels) of the 3x3 layers of StyleGAN2-256 and ProGAN-256, and of BigGAN-128.
STYLEGAN = [(512, 512), (512, 256), (256, 256), (256, 128), (128, 128), (128, 64), (64, 64)]
BIGGAN = [(1536, 1536), (1536, 768), (768, 768), (768, 384), (384, 384), (384, 192), (192, 192), (192, 96), (96, 96)]
PROMISE = 2e-5  # of the largest result


def largest_error(found, exact):
    return ((found.double() - exact).abs().max() / exact.abs().max()).item()


@pytest.mark.parametrize(("i", "o"), STYLEGAN + BIGGAN, ids=str)
def test_every_layer_of_the_published_networks_keeps_the_promised_accuracy(i, o):
    """Forward, input gradient and weight gradient, against float64; more pixels do not change the error of one."""
    random = torch.Generator().manual_seed(0)
    x, dy = (torch.randn(1, c, 12, 12, generator=random) for c in (i, o))
    w = torch.randn(o, i, 3, 3, generator=random) / (9 * i) ** 0.5
    ours = torch.ops.gankern.winograd_weight_gradient(x, dy, 1, 1, None, None)
    exact = torch.ops.aten.convolution_backward(
        dy.double(), x.double(), w.double(), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, True, False]
    )
    y = torch.nn.functional.conv2d(x.double(), w.double(), padding=1)
    assert largest_error(convolution.winograd(x, w, [1, 1], False), y) < PROMISE
    assert largest_error(convolution.winograd(dy, w, [1, 1], True), exact[0]) < PROMISE
    assert largest_error(ours, exact[1]) < PROMISE


@pytest.mark.parametrize(("i", "o"), STYLEGAN, ids=str)
def test_every_layer_that_resamples_keeps_the_promised_accuracy(i, o):
    random = torch.Generator().manual_seed(0)
    small, large = torch.randn(1, i, 8, 8, generator=random), torch.randn(1, o, 17, 17, generator=random)
    w = torch.randn(i, o, 3, 3, generator=random) / (9 * i) ** 0.5
    up = torch.nn.functional.conv_transpose2d(small.double(), w.double(), stride=2)
    down = torch.nn.functional.conv2d(large.double(), w.double(), stride=2)
    dw = torch.nn.grad.conv2d_weight(large.double(), w.shape, small.double(), stride=2)
    ours = torch.ops.gankern.winograd_strided_weight_gradient(large, small, 0, 0, None, None)
    assert largest_error(convolution.winograd_strided(small, w, [0, 0], True), up) < PROMISE
    assert largest_error(convolution.winograd_strided(large, w, [0, 0], False), down) < PROMISE
    assert largest_error(ours, dw) < PROMISE
