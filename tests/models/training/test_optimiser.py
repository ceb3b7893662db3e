"""Adam under lazy regularisation, and the flat gradient buffer."""

import copy

import pytest
import torch
from torch import nn

import gankern
from gankern.models.training.optimiser import flatten_gradients, lazy_adam


@pytest.mark.parametrize("interval", [4, 16])
def test_lazy_regularisation_scales_rate_and_decays(interval: int) -> None:
    group = lazy_adam(nn.Linear(2, 2), 0.0025, (0.0, 0.99), interval).param_groups[0]
    ratio = interval / (interval + 1)
    assert group["lr"] == pytest.approx(0.0025 * ratio)
    assert group["betas"] == (0.0, pytest.approx(0.99**ratio))
    assert all(isinstance(beta, float) for beta in group["betas"])


@pytest.mark.parametrize("interval", [0, 1], ids=["no-regularisation", "in-every-step"])
def test_without_regularisation_steps_adam_is_plain(interval: int) -> None:
    group = lazy_adam(nn.Linear(2, 2), 0.01, (0.5, 0.99), interval, eps=1e-6).param_groups[0]
    assert (group["lr"], group["betas"], group["eps"]) == (0.01, (0.5, 0.99), 1e-6)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_steps_from_the_flat_buffer_equal_steps_from_separate_gradients(memory_format: torch.memory_format) -> None:
    flat_net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 2, 1)).to(memory_format=memory_format)
    net = copy.deepcopy(flat_net)
    flat = flatten_gradients(flat_net)
    flat_opt = lazy_adam(flat_net, 0.01, (0.0, 0.99), 4)
    opt = torch.optim.Adam(net.parameters(), 0.008, (0.0, 0.99**0.8))
    for _ in range(3):
        x = torch.randn(2, 3, 6, 6)
        flat.zero_()
        opt.zero_grad()
        flat_net(x).square().sum().backward()
        net(x).square().sum().backward()
        in_buffer = sum(p.grad.square().sum() for p in flat_net.parameters())
        torch.testing.assert_close(flat.square().sum(), in_buffer)
        flat_opt.step()
        opt.step()
    for a, b in zip(flat_net.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_gradients_are_sanitised_in_place() -> None:
    net = nn.Linear(4, 1, bias=False)
    flat = flatten_gradients(net)
    net.weight.grad.copy_(torch.tensor([[1.0, torch.nan, torch.inf, -torch.inf]]))
    gankern.sanitize_gradients(flat)
    assert net.weight.grad.tolist() == [[1.0, 0.0, 1e5, -1e5]]
