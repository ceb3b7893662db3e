"""minibatch_stddev."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from gankern import minibatch_stddev
from gankern.nn import MinibatchStddev


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


@pytest.mark.parametrize("group_size", [None, 4, 100])
def test_a_batch_smaller_than_the_group_is_one_group(group_size):
    x = torch.randn([3, 4, 2, 2], dtype=torch.float64)
    torch.testing.assert_close(minibatch_stddev(x, group_size), loop(x, 3, 1))


def test_contiguous_groups_are_strided_groups_of_the_samples_in_another_order():
    x = torch.randn([6, 4, 2, 3], dtype=torch.float64)
    order = torch.tensor([0, 3, 1, 4, 2, 5])  # groups {0, 1, 2}, {3, 4, 5} -> members 2 apart
    y = minibatch_stddev(x, 3, 2, grouping="contiguous")
    torch.testing.assert_close(y[order], minibatch_stddev(x[order], 3, 2))


def test_unbiased_divides_by_one_less():
    x = torch.randn([3, 1, 1, 1], dtype=torch.float64)
    y = minibatch_stddev(x, None, unbiased=True)
    torch.testing.assert_close(y[:, 1].flatten(), x.std(correction=1).expand(3), rtol=1e-6, atol=0)
    torch.testing.assert_close(minibatch_stddev(x[:1], unbiased=True)[0, 1].item(), 1e-4)


def test_the_module_passes_its_options_on_and_shows_them():
    module = MinibatchStddev(2, 2, grouping="contiguous", unbiased=True)
    x = torch.randn([4, 4, 2, 2])
    torch.testing.assert_close(module(x), minibatch_stddev(x, 2, 2, grouping="contiguous", unbiased=True))
    assert module.extra_repr() == "group_size=2, num_channels=2, grouping='contiguous', unbiased=True"
    assert MinibatchStddev().extra_repr() == "group_size=4, num_channels=1"


def penalised(module, x):
    """A loss through the statistics and through their gradient, as with R1."""
    score = module(x).square().sum()
    (dx,) = torch.autograd.grad(score, x, create_graph=True)
    return score + dx.square().sum()


def one_rank(rank: int, folder: Path, x: torch.Tensor) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/ranks", rank=rank, world_size=2)
    part = x[rank::2].contiguous(memory_format=torch.channels_last).requires_grad_()
    found = []
    for group_size in (3, 2):  # each group lies in one rank's batch, or has samples of both
        module = MinibatchStddev(group_size, 2, process_group=dist.group.WORLD)
        y = module(part)
        (gradient,) = torch.autograd.grad(penalised(module, part), part)
        found += [y.detach(), gradient]
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_give_the_result_and_the_gradients_of_the_whole_batch(tmp_path):
    x = torch.randn([6, 4, 3, 2], dtype=torch.float64)
    torch.multiprocessing.spawn(one_rank, (tmp_path, x), nprocs=2)
    whole = x.clone().requires_grad_()
    expected = []
    for group_size in (3, 2):
        module = MinibatchStddev(group_size, 2)
        expected += [module(whole), *torch.autograd.grad(penalised(module, whole), whole)]
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for value, *of_ranks in zip(expected, *parts, strict=True):
        torch.testing.assert_close(torch.stack(of_ranks, 1).flatten(0, 1), value.detach())
    assert parts[0][0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.kernels
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
def test_one_thread_and_two_give_the_same_bits(memory_format, backend, device):
    x = torch.randn([8, 70, 17, 13], device=device).contiguous(memory_format=memory_format).requires_grad_()
    threads, results = torch.get_num_threads(), []
    for number in (1, 2):
        torch.set_num_threads(number)
        y = minibatch_stddev(x, 4, 2, backend=backend)
        (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        results.append([y.detach(), dx.detach(), *torch.autograd.grad(dx.square().sum(), x)])
    torch.set_num_threads(threads)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


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
        ({"grouping": "random"}, ValueError, "grouping must be one of strided, contiguous, got 'random'"),
        ({"num_channels": 0}, ValueError, "num_channels must be an integer that divides C = 4"),
    ],
)
def test_says_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=f"gankern.minibatch_stddev: {message}"):
        minibatch_stddev(**{"x": torch.zeros([6, 4, 2, 2]), **arguments})


def second_derivative(x, backend):
    x = x.clone().requires_grad_()
    y = minibatch_stddev(x, 2, backend=backend)
    (dx,) = torch.autograd.grad(
        (y * torch.linspace(-1, 1, y.numel()).to(x).reshape(y.shape)).sum(), x, create_graph=True
    )
    return torch.autograd.grad(dx.square().sum(), x)[0].double()


def test_the_second_derivative_of_a_pair_is_as_exact_as_eagers(backend, device):
    """It is what is left of a difference of nearly equal numbers, of which a wrong order loses all digits."""
    x = torch.randn([2, 48, 4, 4], dtype=torch.float64, device=device)
    exact = second_derivative(x, "eager")
    error, allowed = ((second_derivative(x.float(), b) - exact).abs().max() for b in (backend, "eager"))
    assert error <= 4 * allowed
