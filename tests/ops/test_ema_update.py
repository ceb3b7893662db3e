"""ema_update."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gankern import ema_update
from gankern.reference import ema_update as reference


class Names(TorchDispatchMode):
    """Records the names of all torch operations."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(func._opname)
        return func(*args, **(kwargs or {}))


def tensors(seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype) for shape in ([3, 4], [], [5])]


@pytest.mark.parametrize("beta", [0, 0.25, 0.999, 1, torch.tensor(0.999), torch.tensor([0.25], dtype=torch.float64)])
def test_equals_the_formula(beta):
    actual, expected = tensors(0), tensors(0)
    ema_update(actual, tensors(1), beta)
    reference.ema_update(expected, tensors(1), beta)
    for value, same in zip(actual, expected, strict=True):
        torch.testing.assert_close(value, same, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("beta", [0.75, torch.tensor(0.75)])
def test_a_float32_average_follows_16_bit_weights(beta):
    actual, expected = tensors(0, torch.float32), tensors(0, torch.float32)
    ema_update(actual, tensors(1, torch.bfloat16), beta)
    reference.ema_update(expected, [t.float() for t in tensors(1, torch.bfloat16)], beta)
    for value, same in zip(actual, expected, strict=True):
        torch.testing.assert_close(value, same)


def test_a_tensor_beta_is_never_read_by_the_host():
    with Names() as names:
        ema_update(tensors(0), tensors(1), torch.tensor(0.5))
    assert "_local_scalar_dense" not in names.seen


@pytest.mark.parametrize("buffers", ["copy", "lerp"])
def test_parameters_of_modules_are_averaged_and_buffers_as_asked(buffers):
    net, average = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    with torch.no_grad():
        net.weight.fill_(2.0)
        net.running_mean.fill_(4.0)
        net.num_batches_tracked.fill_(7)
    ema_update(average, net, 0.75, buffers=buffers)
    torch.testing.assert_close(average.weight.detach(), torch.full([3], 1.25))
    torch.testing.assert_close(average.running_mean, torch.full([3], 4.0 if buffers == "copy" else 1.0))
    assert average.num_batches_tracked == 7


def test_no_tensors_are_no_work():
    ema_update([], [], 0.5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"src": torch.nn.Linear(1, 1)}, TypeError, "src must be a module or a list as dst, a list, is, got Linear"),
        ({"src": []}, ValueError, "src must have as many tensors as dst, 1, got 0"),
        ({"src": [torch.zeros([3])]}, ValueError, r"src\[0\] must have the shape of dst\[0\], \[2\], got \[3\]"),
        ({"beta": 1.5}, ValueError, r"beta must be in \[0, 1\], got 1.5"),
        ({"beta": "half"}, TypeError, "beta must be a number, got str"),
        ({"beta": torch.zeros([2])}, ValueError, r"beta must be a number or have one element, got \[2\]"),
        ({"buffers": "drop"}, ValueError, "buffers must be 'copy' or 'lerp', got 'drop'"),
    ],
)
def test_says_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=f"gankern.ema_update: {message}"):
        ema_update(**{"dst": [torch.zeros([2])], "src": [torch.zeros([2])], "beta": 0.5, **arguments})
