"""sanitize_gradients."""

from __future__ import annotations

import pytest
import torch

from gankern import sanitize_gradients

BAD = [1.0, torch.nan, torch.inf, -torch.inf]


@pytest.mark.parametrize("number", [1, 5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_replaces_what_is_not_finite_in_place(dtype, number):
    gradients = [torch.tensor(BAD, dtype=dtype) for _ in range(number)]
    sanitize_gradients(gradients, nan=2, posinf=3, neginf=-4)
    assert [g.tolist() for g in gradients] == [[1, 2, 3, -4]] * number


def test_takes_networks_parameters_and_one_tensor():
    net = torch.nn.Linear(4, 1)
    net.weight.grad = torch.tensor([BAD])
    sanitize_gradients(net)  # the bias has no gradient
    assert net.weight.grad.tolist() == [[1, 0, 1e5, -1e5]]
    assert net.bias.grad is None
    net.weight.grad = torch.tensor([BAD])
    sanitize_gradients(net.parameters())
    assert net.weight.grad.tolist() == [[1, 0, 1e5, -1e5]]
    flat = torch.tensor(BAD)
    sanitize_gradients(flat)
    assert flat.tolist() == [1, 0, 1e5, -1e5]


def test_gradients_of_any_strides_stay_where_they_are():
    flat = torch.full([12], torch.nan)
    sanitize_gradients([flat[:6].view(2, 3).T, flat[6::2]])
    assert flat[:6].tolist() == [0] * 6
    assert flat[6:].isnan().tolist() == [False, True] * 3


def test_refuses_what_is_not_floating_point():
    with pytest.raises(
        TypeError, match=r"gankern.sanitize_gradients: gradients\[0\] must be float64, .* got torch.int64"
    ):
        sanitize_gradients([torch.tensor([1])])
