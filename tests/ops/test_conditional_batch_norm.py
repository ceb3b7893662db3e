"""conditional_batch_norm: its errors, running statistics, other processes, and the module."""

from __future__ import annotations

import multiprocessing

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.autograd import gradgradcheck

import gankern
from gankern import conditional_batch_norm
from gankern.nn import ConditionalBatchNorm2d

X = torch.zeros([4, 6, 5, 5])
AFFINE = torch.zeros([4, 6])
STORED = torch.zeros([6])

ERRORS = {
    "x_is_no_image": ({"x": X[0]}, ValueError, "x must have 4 dimensions [N, C, H, W], got [6, 5, 5]"),
    "x_is_one_value": (
        {"x": X[:1, :, :1, :1], "gain": STORED, "bias": STORED},
        ValueError,
        "x must have more than one value per channel in training, got [1, 6, 1, 1]",
    ),
    "gain_is_no_tensor": ({"gain": 1.0}, TypeError, "gain must be a torch.Tensor, got float"),
    "gain_is_too_short": (
        {"gain": AFFINE[:2]},
        ValueError,
        "gain must have shape [N, C] = [4, 6] or [C] = [6], got [2, 6] (x is [4, 6, 5, 5])",
    ),
    "bias_is_of_another_dtype": (
        {"bias": AFFINE.half()},
        TypeError,
        "bias must be of the dtype of x, torch.float32, or float32, got torch.float16",
    ),
    "bias_is_on_another_device": ({"bias": AFFINE.to("meta")}, ValueError, "bias must be on the device of x, cpu"),
    "one_running_statistic": (
        {"running_mean": STORED},
        ValueError,
        "running_mean and running_var must be given together, got one of them",
    ),
    "no_running_statistics": (
        {"training": False},
        ValueError,
        "running_mean and running_var must be given where training is False, got None",
    ),
    "running_mean_per_sample": (
        {"running_mean": AFFINE, "running_var": STORED},
        ValueError,
        "running_mean must have shape [C] = [6], got [4, 6]",
    ),
    "momentum_is_none": ({"momentum": None}, TypeError, "momentum must be a number, got NoneType"),
    "eps_is_negative": ({"eps": -1e-5}, ValueError, "eps must be at least 0, got -1e-05"),
    "act_is_unknown": ({"act": "lrelu"}, ValueError, "act must be None or 'relu', got 'lrelu'"),
    "up_is_too_large": ({"up": 4}, ValueError, "up must be 1 or 2, got 4"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_wrong_argument_is_named_with_what_was_expected(name):
    wrong, error, text = ERRORS[name]
    with pytest.raises(error) as caught:
        conditional_batch_norm(**{"x": X, "gain": AFFINE, "bias": AFFINE, **wrong})
    assert str(caught.value).startswith("gankern")
    assert text in str(caught.value)


def test_the_raw_ops_refuse_what_would_read_out_of_bounds():
    if gankern.dispatch.why_not("conditional_batch_norm", "native", "cpu"):
        pytest.skip("the native library is not built")
    ops = torch.ops.gankern
    with pytest.raises(RuntimeError, match="gain must have 4 rows of C = 6"):
        ops.conditional_batch_norm(X, STORED, AFFINE, None, None, 1e-5, True, 1, True, "")
    with pytest.raises(RuntimeError, match="up must be 1 or 2"):
        ops.conditional_batch_norm(X, AFFINE, AFFINE, None, None, 1e-5, True, 3, True, "")
    with pytest.raises(RuntimeError, match="mean must have 1 rows of C = 6"):
        ops.conditional_batch_norm(X, AFFINE, AFFINE, STORED[:3], STORED, 1e-5, True, 1, True, "")
    with pytest.raises(RuntimeError, match="dy must be of the dtype of x, with the shape of x upsampled"):
        ops.conditional_batch_norm_backward(X, X, AFFINE, AFFINE, X[0, :3, 0, :], 1e-5, True, 2, True, "")


def layer(x, gain, bias, stored_mean, stored_var, training, momentum):
    y = F.batch_norm(x, stored_mean, stored_var, training=training, momentum=momentum, eps=1e-4)
    return F.interpolate((gain[:, :, None, None] * y + bias[:, :, None, None]).relu(), scale_factor=2)


def test_is_torchs_batch_norm_with_all_its_running_statistics(backend, device):
    generator = torch.Generator().manual_seed(5)
    gain, bias = (torch.randn([4, 6], generator=generator).to(device) for _ in range(2))
    ours, theirs = (torch.full([2, 6], 0.7, device=device) for _ in range(2))
    for momentum, training in ((0.1, True), (0.5, True), (0.0, True), (0.1, False)):
        x = (3 * torch.randn([4, 6, 5, 3], generator=generator) + 2).to(device)
        options = {"training": training, "momentum": momentum}
        actual = conditional_batch_norm(x, gain, bias, *ours, eps=1e-4, act="relu", up=2, backend=backend, **options)
        torch.testing.assert_close(actual, layer(x, gain, bias, *theirs, **options), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours, theirs)


@pytest.mark.kernels
def test_a_mean_far_from_zero_costs_no_precision(backend, device):
    """E[x^2] - E[x]^2 in float32 would leave nothing of a deviation of 1 beside a mean of 4096."""
    x = torch.randn([4, 3, 32, 32], generator=torch.Generator().manual_seed(6)).to(device)
    x = x.mul(64).round() / 64  # exact beside 4096
    one = torch.ones([3], device=device)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        shifted = (x + 4096).contiguous(memory_format=memory_format)
        actual = conditional_batch_norm(shifted, one, one, backend=backend)
        torch.testing.assert_close(actual, conditional_batch_norm(x, one, one), rtol=2e-3, atol=2e-3)


@pytest.mark.kernels
@pytest.mark.parametrize("up", [1, 2])
def test_derivatives_in_training_are_right_to_third_order(up, backend, device):
    shapes = ([2, 2, 2, 2], [2, 2], [2, 2], [2, 2, 2 * up, 2 * up])
    x, gain, bias, dy = (torch.randn(shape).double().to(device) for shape in shapes)

    def gradient(dy, x, gain, bias):
        y = conditional_batch_norm(x, gain, bias, eps=0.1, act="relu", up=up, backend=backend)
        return torch.autograd.grad(y, (x, gain, bias), dy, create_graph=True)

    assert gradgradcheck(gradient, [t.requires_grad_() for t in (dy, x, gain, bias)])


@pytest.mark.kernels
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_one_thread_and_two_give_the_same_bits(memory_format, backend, device):
    x = torch.randn([5, 17, 41, 37]).to(device).contiguous(memory_format=memory_format)
    gain = torch.randn([5, 17]).to(device)
    threads, results = torch.get_num_threads(), []
    for number in (1, 2):
        torch.set_num_threads(number)
        inputs = [t.clone().requires_grad_() for t in (x, gain, gain)]
        y = conditional_batch_norm(*inputs, act="relu", up=2, backend=backend)
        first = torch.autograd.grad(y.square().sum(), inputs, create_graph=True)
        results.append([y, *first, *torch.autograd.grad(first[0].square().sum(), inputs[:2])])
    torch.set_num_threads(threads)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def results_of(x, gain, bias, dy, group, backend):
    """Output, gradients, the gradients of a gradient penalty, and the running statistics."""
    x, gain, bias = (t.clone().requires_grad_() for t in (x, gain, bias))
    stored_mean, stored_var = torch.zeros([3]), torch.ones([3])
    y = conditional_batch_norm(x, gain, bias, stored_mean, stored_var, act="relu", up=2, group=group, backend=backend)
    first = torch.autograd.grad(y, (x, gain, bias), dy, create_graph=True)
    penalty = first[0].square().sum() + first[1].square().sum() + (first[2] * bias).sum()
    second = torch.autograd.grad(penalty, (x, gain, bias))
    return {"samples": [t.detach() for t in (y, *first, *second)], "stored": [stored_mean, stored_var]}


def batch():
    generator = torch.Generator().manual_seed(7)
    shapes = ([5, 3, 4, 3], [5, 3], [5, 3], [5, 3, 8, 6])
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]


def one_process(rank, path, queue, backends):
    """One of two processes, with 3 and 2 samples, or with 5 and none."""
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    for backend in backends:
        for first in (3, 5):
            part = [t[:first] if rank == 0 else t[first:] for t in batch()]
            results = results_of(*part, dist.group.WORLD, backend)
            queue.put((backend, first, rank, {k: [t.numpy() for t in v] for k, v in results.items()}))
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="this torch has no gloo")
def test_two_processes_give_what_one_with_the_whole_batch_gives(tmp_path):
    backends = ["eager"]
    if gankern.dispatch.why_not("conditional_batch_norm", "native", "cpu") is None:
        backends.append("native")
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.Queue()
    arguments = [(rank, tmp_path / "rendezvous", queue, backends) for rank in range(2)]
    processes = [spawn.Process(target=one_process, args=each, daemon=True) for each in arguments]
    for process in processes:
        process.start()
    parts = [queue.get(timeout=120) for _ in range(4 * len(backends))]
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    by_call = {(backend, first, rank): results for backend, first, rank, results in parts}
    expected = results_of(*batch(), None, "eager")
    for backend in backends:
        for first in (3, 5):
            ranks = [by_call[backend, first, rank] for rank in range(2)]
            samples = [torch.cat([torch.tensor(t) for t in pair]) for pair in zip(*(r["samples"] for r in ranks))]
            for actual, value in zip(samples, expected["samples"], strict=True):
                torch.testing.assert_close(actual, value, rtol=1e-9, atol=1e-10)
            for results in ranks:
                for actual, value in zip(results["stored"], expected["stored"], strict=True):
                    torch.testing.assert_close(torch.tensor(actual), value)


def test_the_module_has_the_published_names():
    module = ConditionalBatchNorm2d(6, 5)
    shapes = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    stored = {"stored_mean": (6,), "stored_var": (6,)}
    assert shapes == {"gain.weight": (6, 5), "bias.weight": (6, 5), **stored}
    assert "num_features=6" in repr(module)


def test_the_module_scales_by_one_plus_the_gain_and_uses_running_statistics_in_evaluation():
    module = ConditionalBatchNorm2d(6, 5, eps=1e-4, act="relu", up=2)
    x, s = torch.randn([4, 6, 5, 3]) * 2 + 1, torch.randn([4, 5])
    stored = torch.zeros([6]), torch.ones([6])
    for training in (True, False):
        module.train(training)
        expected = layer(x, 1 + module.gain(s), module.bias(s), *stored, training, 0.1)
        torch.testing.assert_close(module(x, s), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(module.stored_mean, stored[0])


def test_standing_statistics_are_the_average_over_the_batches_since_the_reset():
    module = ConditionalBatchNorm2d(6, 5)
    batches = [torch.randn([4, 6, 5, 3]) + k for k in range(3)]
    module(batches[0] + 9, torch.randn([4, 5]))
    module.reset_standing_statistics()
    for x in batches:
        module(x, torch.randn([4, 5]))
    torch.testing.assert_close(module.stored_mean, torch.stack([x.mean([0, 2, 3]) for x in batches]).mean(0))
    torch.testing.assert_close(module.stored_var, torch.stack([x.var([0, 2, 3]) for x in batches]).mean(0))
    before = module.stored_mean.clone()
    module.eval()(batches[0], torch.randn([4, 5]))
    assert torch.equal(module.stored_mean, before)
