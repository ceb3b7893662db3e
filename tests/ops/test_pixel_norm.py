"""pixel_norm: known values, its second name, its module, its errors."""

from __future__ import annotations

import pytest
import torch
from case import Kernels

from gankern import normalize_2nd_moment, pixel_norm
from gankern.nn import PixelNorm


def test_normalises_the_channels_by_default():
    x = torch.randn([4, 512])
    torch.testing.assert_close(pixel_norm(x), pixel_norm(x, dim=1))
    torch.testing.assert_close(pixel_norm(x), x / x.square().mean(1, keepdim=True).sqrt())


def test_the_second_moment_is_one_but_for_eps():
    x = torch.randn([2, 8, 3, 5], dtype=torch.float64)
    energy = x.square().mean(1)
    torch.testing.assert_close(pixel_norm(x, eps=0.1).square().mean(1), energy / (energy + 0.1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_16_bits_do_not_overflow(dtype):
    x = torch.full([2, 64], 1000.0, dtype=dtype)  # its square is beyond float16
    torch.testing.assert_close(pixel_norm(x), torch.ones_like(x))


def test_zeros_stay_zeros():
    assert pixel_norm(torch.zeros([2, 3])).eq(0).all()


def test_stylegan2s_name_and_the_module_do_the_same():
    x = torch.randn([2, 8, 4, 4])
    assert torch.equal(normalize_2nd_moment(x, dim=2, eps=1e-4), pixel_norm(x, dim=2, eps=1e-4))
    assert torch.equal(PixelNorm(eps=1e-4)(x), pixel_norm(x, eps=1e-4))
    assert repr(PixelNorm()) == "PixelNorm(eps=1e-08)"


@pytest.mark.kernels
def test_a_penalty_is_three_launches(backend, device):
    x = torch.randn([2, 4, 3, 3], device=device, requires_grad=True)
    with Kernels() as kernels:
        (dx,) = torch.autograd.grad(pixel_norm(x, backend=backend).square().sum(), x, create_graph=True)
        torch.autograd.grad(dx.square().sum(), x)
    names = [name.split(".")[1] for name in kernels.names]
    # The last one is first order again: y was used twice, in its own square and in the gradient of that.
    assert names == ["pixel_norm", "pixel_norm_backward", "pixel_norm_backward_backward", "pixel_norm_backward"]


@pytest.mark.parametrize("op", [pixel_norm, normalize_2nd_moment])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": None}, TypeError, "x must be a torch.Tensor, got NoneType"),
        ({"x": torch.zeros([2, 3], dtype=torch.int32)}, TypeError, "x must be float64, .* got torch.int32"),
        ({"x": torch.tensor(1.0)}, ValueError, "x must have at least one dimension, got a scalar tensor"),
        ({"dim": 2}, ValueError, r"dim must be in \[-2, 2\) \(x is \[2, 3\]\), got 2"),
        ({"eps": -1.0}, ValueError, "eps must be at least 0, got -1.0"),
        ({"eps": float("nan")}, ValueError, "eps must not be NaN, got nan"),
        ({"eps": "small"}, TypeError, "eps must be a number, got str"),
    ],
)
def test_says_what_is_wrong(op, arguments, error, message):
    with pytest.raises(error, match=f"gankern.{op.__name__}: {message}"):
        op(**{"x": torch.zeros([2, 3]), **arguments})
