"""style_epilogue: what it is made of, what it keeps, what a network asks of it, its errors."""

from __future__ import annotations

import pytest
import torch
from case import Kernels
from torch.autograd import gradgradcheck

import gankern
from gankern import adain, bias_act, library, style_epilogue

X = torch.zeros([2, 3, 4, 5])


@pytest.fixture(autouse=True)
def skip_what_cannot_run(request):
    if "backend" in request.fixturenames:
        pair = (request.getfixturevalue(name) for name in ("backend", "device"))
        reason = gankern.dispatch.why_not("style_epilogue", *pair)
        if reason is not None:
            pytest.skip(reason)


def tail(device: str, shape=(2, 3, 4, 5), dtype=torch.float64) -> dict[str, torch.Tensor]:
    n, c, h, w = shape
    shapes = {"x": shape, "noise": (n, 1, h, w), "strength": (c,), "b": (c,), "scale": (n, c), "shift": (n, c)}
    generator = torch.Generator().manual_seed(5)
    return {k: torch.randn(s, generator=generator, dtype=dtype).to(device) for k, s in shapes.items()}


def test_is_noise_then_bias_then_activation_then_adain(backend, device):
    t = tail(device)
    u = t["x"] + t["strength"][:, None, None] * t["noise"]
    expected = adain(bias_act(u, t["b"], act="lrelu", gain=1), t["scale"], t["shift"], backend="eager")
    torch.testing.assert_close(style_epilogue(**t, backend=backend), expected)


def test_linear_with_nothing_before_the_norm_is_adain(backend, device):
    t = tail(device)
    y = style_epilogue(t["x"], scale=t["scale"], shift=t["shift"], act="linear", backend=backend)
    torch.testing.assert_close(y, adain(t["x"], t["scale"], t["shift"], backend=backend))


@pytest.mark.kernels
def test_keeps_x_and_one_number_per_channel(backend, device):
    t = {name: tensor.requires_grad_(name == "x") for name, tensor in tail(device).items()}
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        style_epilogue(**t, backend=backend)
    large = {tensor.data_ptr() for tensor in kept if tensor.numel() >= t["x"].numel()}
    assert large == {t["x"].data_ptr()}


@pytest.mark.kernels
def test_the_sums_for_bias_and_strength_are_only_made_where_they_are_wanted(backend, device):
    t = tail(device)
    t["x"].requires_grad_()
    b, strength = (t[name].requires_grad_() for name in ("b", "strength"))
    with library.inputs_only(), Kernels() as kernels:
        torch.autograd.grad(style_epilogue(**t, backend=backend).square().sum(), t["x"])
    assert kernels.calls[-1][1][-1] is False
    with Kernels() as kernels:
        torch.autograd.grad(style_epilogue(**t, backend=backend).square().sum(), [b, strength])
    assert kernels.calls[-1][1][-1] is True


@pytest.mark.kernels
def test_derivatives_of_the_backward_are_right_as_of_an_op_of_its_own(backend, device):
    """Among them those of the sums to the noise, which no generator asks for."""
    t = tail(device, (1, 2, 2, 3))
    names = ("x", "noise", "strength", "b", "scale")
    dy = torch.randn_like(t["x"])

    def gradients(dy, *inputs):
        ops = library.ops(backend)
        _, mean, rstd = ops.style_epilogue(*inputs, None, 0.2, 1.3, 1e-2)
        return ops.style_epilogue_backward(dy, *inputs, mean.detach(), rstd.detach(), 0.2, 1.3, 1e-2, True)

    inputs = [v.requires_grad_() for v in (dy, *(t[name] for name in names))]
    assert torch.autograd.gradcheck(gradients, inputs)
    assert gradgradcheck(gradients, inputs)


@pytest.mark.kernels
def test_a_path_length_penalty_equals_eagers(backend, device):
    """The gradient of the image to the styles, and of that to everything."""
    results = []
    for name in ("eager", backend):
        t = {k: v.requires_grad_() for k, v in tail(device).items()}
        y = style_epilogue(**t, backend=name)
        y = style_epilogue(y.square(), scale=t["scale"].tanh(), act="relu", backend=name)
        dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(6), dtype=y.dtype).to(device)
        styles = torch.autograd.grad((y * dy).sum(), [t["scale"], t["shift"]], create_graph=True)
        lengths = torch.stack([s.square().sum() for s in styles]).sum().sqrt()
        results.append(torch.autograd.grad(lengths, list(t.values())))
    for actual, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": X[0]}, ValueError, r"x must have 4 dimensions \[N, C, H, W\], got \[3, 4, 5\]"),
        ({"act": "tanh"}, ValueError, "act must be one of linear, relu, lrelu, got 'tanh'"),
        ({"noise": X[:, :, 0, 0]}, ValueError, r"noise must have shape \[H, W\], .*, got \[2, 3\]"),
        ({"noise": X}, ValueError, r"noise must have shape .*, got \[2, 3, 4, 5\]"),
        ({"noise": X[:, :1].half()}, TypeError, "noise must be of the dtype of x, torch.float32, or float32"),
        ({"strength": torch.zeros([])}, ValueError, "strength must be None where there is no noise"),
        ({"noise": X[:, :1], "strength": X[0, 0, 0]}, ValueError, r"strength must be a scalar or \[C\] = \[3\]"),
        ({"b": X[0, 0, 0]}, ValueError, r"b must have shape \[C\] = \[3\], got \[5\]"),
        ({"scale": X[:, 0, 0]}, ValueError, r"scale must have shape \[N, C\] = \[2, 3\], got \[2, 5\]"),
        ({"gain": None}, TypeError, "gain must be a number, got NoneType"),
        ({"alpha": X}, TypeError, "alpha must be a number, got Tensor"),
        ({"eps": -1.0}, ValueError, "eps must be at least 0, got -1.0"),
    ],
)
def test_says_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=f"gankern.style_epilogue: {message}"):
        style_epilogue(**{"x": X, **arguments})
