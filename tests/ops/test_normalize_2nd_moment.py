"""normalize_2nd_moment."""

from __future__ import annotations

import pytest
import torch

from gankern import normalize_2nd_moment
from gankern.reference import normalize_2nd_moment as reference


@pytest.mark.parametrize("shape", [[5, 7], [3], [2, 8, 3, 5]], ids=str)
@pytest.mark.parametrize("dim", [0, -1])
def test_equals_the_reference(shape, dim):
    x = torch.randn(shape, dtype=torch.float64)
    y = normalize_2nd_moment(x, dim)
    torch.testing.assert_close(y, reference.normalize_2nd_moment(x, dim, 1e-8))
    energy = x.square().mean(dim)
    torch.testing.assert_close(y.square().mean(dim), energy / (energy + 1e-8))


def test_normalises_the_channels_by_default():
    x = torch.randn([4, 512])
    torch.testing.assert_close(normalize_2nd_moment(x), normalize_2nd_moment(x, dim=1))
    torch.testing.assert_close(normalize_2nd_moment(x), x / x.square().mean(1, keepdim=True).sqrt())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_16_bits_do_not_overflow(dtype):
    x = torch.full([2, 64], 1000.0, dtype=dtype)  # its square is beyond float16
    torch.testing.assert_close(normalize_2nd_moment(x), torch.ones_like(x))


def test_zeros_stay_zeros():
    assert normalize_2nd_moment(torch.zeros([2, 3])).eq(0).all()


def test_keeps_the_memory_format_and_an_empty_batch():
    x = torch.randn([2, 8, 4, 4]).contiguous(memory_format=torch.channels_last)
    assert normalize_2nd_moment(x).is_contiguous(memory_format=torch.channels_last)
    assert normalize_2nd_moment(torch.zeros([0, 16])).shape == (0, 16)


def test_gradients_of_both_orders_are_right():
    x = torch.randn([2, 5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(normalize_2nd_moment, x)
    assert torch.autograd.gradgradcheck(normalize_2nd_moment, x)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": None}, TypeError, "x must be a torch.Tensor, got NoneType"),
        ({"x": torch.zeros([2, 3], dtype=torch.int32)}, TypeError, "x must be float64, .* got torch.int32"),
        ({"x": torch.tensor(1.0)}, ValueError, "x must have at least one dimension, got a scalar tensor"),
        ({"dim": 2}, ValueError, r"dim must be in \[-2, 2\) \(x is \[2, 3\]\), got 2"),
        ({"eps": -1.0}, ValueError, "eps must be at least 0, got -1.0"),
        ({"eps": float("nan")}, ValueError, "eps must be at least 0, got nan"),
        ({"eps": "small"}, TypeError, "eps must be a number, got str"),
    ],
)
def test_says_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=f"gankern.normalize_2nd_moment: {message}"):
        normalize_2nd_moment(**{"x": torch.zeros([2, 3]), **arguments})
