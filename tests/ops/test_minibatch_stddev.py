"""minibatch_stddev."""

from __future__ import annotations

import pytest
import torch

from gankern import minibatch_stddev
from gankern.reference import minibatch_stddev as reference


def loop(x, group_size, num_channels):
    """Written out: groups of every (N / group_size)-th sample, channels in runs of C / num_channels."""
    n, c = x.shape[:2]
    stride = n // group_size
    y = x.new_empty([n, num_channels, *x.shape[2:]])
    for i in range(n):
        group = x[i % stride :: stride]  # [group_size, C, H, W]
        deviation = (group.var(dim=0, correction=0) + 1e-8).sqrt()  # [C, H, W]
        for f in range(num_channels):
            y[i, f] = deviation[f * c // num_channels : (f + 1) * c // num_channels].mean()
    return torch.cat([x, y], dim=1)


@pytest.mark.parametrize("num_channels", [1, 3])
@pytest.mark.parametrize("group_size", [1, 2, 4, 8])
def test_equals_the_formula_written_out(group_size, num_channels):
    x = torch.randn([8, 6, 4, 3], dtype=torch.float64)
    y = minibatch_stddev(x, group_size, num_channels)
    torch.testing.assert_close(y, loop(x, group_size, num_channels), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(y, reference.minibatch_stddev(x, group_size, num_channels), rtol=0, atol=0)


@pytest.mark.parametrize("group_size", [None, 4, 100])
def test_a_batch_smaller_than_the_group_is_one_group(group_size):
    x = torch.randn([3, 4, 2, 2], dtype=torch.float64)
    torch.testing.assert_close(minibatch_stddev(x, group_size), loop(x, 3, 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_16_bits_do_not_overflow(dtype):
    x = (torch.randn([4, 8, 4, 4]) * 500).to(dtype)  # a square is beyond float16
    y = minibatch_stddev(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y, minibatch_stddev(x.float()).to(dtype))


def test_keeps_the_memory_format():
    x = torch.randn([4, 8, 4, 4])
    assert minibatch_stddev(x).is_contiguous()
    x = x.contiguous(memory_format=torch.channels_last)
    assert minibatch_stddev(x).is_contiguous(memory_format=torch.channels_last)


def test_an_empty_batch_gives_an_empty_batch():
    assert minibatch_stddev(torch.zeros([0, 8, 4, 4]), num_channels=2).shape == (0, 10, 4, 4)


@pytest.mark.parametrize("group_size", [2, 4])
def test_gradients_of_both_orders_are_right(group_size):
    x = torch.randn([4, 2, 2, 1], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: minibatch_stddev(x, group_size, 2), x)
    assert torch.autograd.gradgradcheck(lambda x: minibatch_stddev(x, group_size, 2), x)


def test_compiles_as_one_graph():
    x = torch.randn([4, 8, 4, 4])
    compiled = torch.compile(minibatch_stddev, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), minibatch_stddev(x))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": 1.0}, TypeError, "x must be a torch.Tensor, got float"),
        ({"x": torch.zeros([6, 4])}, ValueError, r"x must have 4 dimensions \[N, C, H, W\], got \[6, 4\]"),
        ({"x": torch.zeros([6, 4, 2, 2]).int()}, TypeError, "x must be float64, .* got torch.int32"),
        ({}, ValueError, r"group_size must divide N = 6 \(x is \[6, 4, 2, 2\]\), got 4"),
        ({"group_size": 0}, ValueError, "group_size must be None or an integer of at least 1, got 0"),
        ({"group_size": 2.0}, ValueError, "group_size must be None or an integer of at least 1, got 2.0"),
        ({"num_channels": 3, "group_size": 2}, ValueError, "num_channels must be an integer that divides C = 4"),
        ({"num_channels": 0}, ValueError, "num_channels must be an integer that divides C = 4"),
    ],
)
def test_says_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=f"gankern.minibatch_stddev: {message}"):
        minibatch_stddev(**{"x": torch.zeros([6, 4, 2, 2]), **arguments})
