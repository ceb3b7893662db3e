"""filtered_lrelu: the composition it stands for, what is one kernel, refusals."""

from __future__ import annotations

import math

import pytest
import torch
from case import LAYOUTS, Kernels, like_random

import gankern
from gankern import dispatch

NATIVE = dispatch.why_not("filtered_lrelu", "native", "cpu") is None
needs_native = pytest.mark.skipif(not NATIVE, reason="the native library is not built")
OPTIONS = {"up": 2, "down": 2, "padding": [7, 6, 7, 6]}


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def filters() -> tuple[torch.Tensor, torch.Tensor]:
    return gankern.setup_filter([1, 2, 4, 6, 6, 4, 2, 1]), gankern.setup_filter([[1, 3, 5], [3, 7, 2]])


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_is_bias_upsampling_activation_and_downsampling(layout, backend, device):
    x, b = LAYOUTS[layout](images(2, 3, 8, 7)).to(device), images(3).to(device)
    fu, fd = (f.to(device) for f in filters())
    u = gankern.upfirdn2d(gankern.bias_act(x, b), fu, up=2, padding=[7, 6, 7, 6], gain=4, backend="eager")
    u = torch.nn.functional.leaky_relu(1.5 * u, 0.1).clamp(-1, 1)
    expected = gankern.upfirdn2d(u, fd, down=2, backend="eager")
    y = gankern.filtered_lrelu(x, fu, fd, b, **OPTIONS, gain=1.5, slope=0.1, clamp=1, backend=backend)
    torch.testing.assert_close(y, expected)


def test_a_flat_image_keeps_its_value_times_the_gain(backend, device):
    x = torch.full([1, 1, 16, 16], 3.0, device=device)
    f = gankern.setup_filter([1, 3, 3, 1] * 2, device=device)
    y = gankern.filtered_lrelu(x, f, f, up=2, down=2, padding=[7, 6, 7, 6], backend=backend)
    torch.testing.assert_close(y[:, :, 6:10, 6:10], torch.full_like(y[:, :, 6:10, 6:10], 3 * math.sqrt(2)))


@needs_native
def test_all_three_passes_are_one_kernel_each():
    x, b = images(2, 3, 8, 7).requires_grad_(), images(3).requires_grad_()
    with Kernels() as kernels:
        y = gankern.filtered_lrelu(x, *filters(), b, **OPTIONS, backend="native")
        dy = like_random(y).requires_grad_()
        (dx,) = torch.autograd.grad(y, x, dy, create_graph=True)
        torch.autograd.grad(dx.square().sum(), dy)
    backward = "gankern.filtered_lrelu_backward"
    assert kernels.names == ["gankern.filtered_lrelu", backward, backward]


@needs_native
def test_signs_are_kept_only_for_a_gradient():
    x = images(2, 3, 8, 7)
    for wanted in (False, True):
        with Kernels() as kernels:
            gankern.filtered_lrelu(x.requires_grad_(wanted), *filters(), **OPTIONS, backend="native")
        assert [args[-1] for _, args in kernels.calls] == [wanted]


@needs_native
def test_what_is_not_one_kernel_is_composed_of_native_ones():
    with Kernels() as kernels:
        gankern.filtered_lrelu(images(2, 3, 50, 50), torch.ones([40]) / 40, backend="native")
    assert kernels.names == ["gankern.upfirdn2d", "gankern.bias_act", "gankern.upfirdn2d"]


@needs_native
def test_one_thread_and_two_give_the_same_bits():
    x, b = images(3, 5, 20, 41).float().requires_grad_(), images(5).float().requires_grad_()
    threads = torch.get_num_threads()
    results = []
    for number in (1, 2):
        torch.set_num_threads(number)
        y = gankern.filtered_lrelu(x, *filters(), b, **OPTIONS, backend="native")
        results.append([y, *torch.autograd.grad(y, (x, b), like_random(y))])
    torch.set_num_threads(threads)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_wrong_arguments_are_refused():
    x, f = torch.zeros([2, 3, 4, 5]), torch.ones([4]) / 4
    with pytest.raises(TypeError, match=r"gankern.filtered_lrelu: up must be an integer, got \[2, 2\]"):
        gankern.filtered_lrelu(x, up=[2, 2])
    with pytest.raises(ValueError, match=r"down must be in \[1, 128\], got 0"):
        gankern.filtered_lrelu(x, down=0)
    with pytest.raises(ValueError, match=r"gain must be greater than 0, got -1"):
        gankern.filtered_lrelu(x, gain=-1)
    with pytest.raises(ValueError, match=r"slope must be at least 0, got -0.1"):
        gankern.filtered_lrelu(x, slope=-0.1)
    with pytest.raises(ValueError, match=r"clamp must be None or at least 0, got -2"):
        gankern.filtered_lrelu(x, clamp=-2)
    with pytest.raises(TypeError, match=r"fu must be float32 \(see setup_filter\), got torch.float64"):
        gankern.filtered_lrelu(x, f.double())
    with pytest.raises(ValueError, match=r"fd must have shape \[taps\] or \[taps_y, taps_x\]"):
        gankern.filtered_lrelu(x, f, f[None, None])
    with pytest.raises(ValueError, match=r"b must have shape \[C\] = \[3\], got \[2\]"):
        gankern.filtered_lrelu(x, b=torch.zeros([2]))
    with pytest.raises(ValueError, match=r"padding must leave at least a pixel for fd \[4, 4\] after fu \[4, 4\]"):
        gankern.filtered_lrelu(x, f, f)
