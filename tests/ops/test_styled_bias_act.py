"""styled_bias_act: its errors, what it reads, and its second order."""

from __future__ import annotations

import contextlib
import math

import pytest
import torch
from case import Case, Kernels
from cases_bias_act import ACTIVATIONS
from cases_styled_bias_act import CASES
from torch.autograd import gradcheck, gradgradcheck

import gankern
from gankern import bias_act, library, styled_bias_act

X = torch.zeros([4, 6, 8, 5])
ARGUMENTS = {
    "x": X,
    "scale": torch.zeros([4, 6]),
    "noise": torch.zeros([4, 1, 8, 5]),
    "strength": torch.zeros([6]),
    "b": torch.zeros([6]),
}
DTYPES = "be of the dtype of x, torch.float32, or float32"

ERRORS = {
    "x_has_three_dimensions": ({"x": X[0]}, ValueError, "x must have 4 dimensions [N, C, H, W], got [6, 8, 5]"),
    "x_is_of_integers": ({"x": X.int()}, TypeError, "x must be float64, float32, bfloat16 or float16, got torch.int32"),
    "scale_is_no_tensor": ({"scale": 2.0}, TypeError, "scale must be a torch.Tensor, got float"),
    "scale_has_no_samples": (
        {"scale": torch.zeros([6])},
        ValueError,
        "scale must have shape [N, C] = [4, 6], got [6] (x is [4, 6, 8, 5])",
    ),
    "scale_is_float64": ({"scale": torch.zeros([4, 6]).double()}, TypeError, f"scale must {DTYPES}, got torch.float64"),
    "noise_is_transposed": (
        {"noise": torch.zeros([5, 8])},
        ValueError,
        "noise must have shape [H, W], [1, 1, H, W] or [N, 1, H, W] with N, H, W = 4, 8, 5, got [5, 8]",
    ),
    "noise_has_channels": ({"noise": X}, ValueError, "noise must have shape [H, W]"),
    "strength_is_too_long": (
        {"strength": torch.zeros([4])},
        ValueError,
        "strength must have shape [] or [C] = [6], got [4]",
    ),
    "strength_is_alone": ({"noise": None}, ValueError, "strength must be None where there is no noise, got Tensor"),
    "b_is_too_short": ({"b": torch.zeros([5])}, ValueError, "b must have shape [C] = [6], got [5]"),
    "b_is_elsewhere": ({"b": torch.zeros([6], device="meta")}, ValueError, "b must be on the device of x, cpu, got"),
    "act_is_unknown": ({"act": "gelu"}, ValueError, "act must be one of linear, relu, lrelu, tanh, sigmoid, elu"),
    "clamp_is_negative": ({"clamp": -1}, ValueError, "clamp must be None or at least 0, got -1"),
    "clamp_is_nan": ({"clamp": math.nan}, ValueError, "clamp must not be NaN, got nan"),
    "gain_is_a_tensor": ({"gain": torch.tensor(2.0)}, TypeError, "gain must be a number, got Tensor"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_wrong_argument_is_named_with_what_was_expected(name):
    wrong, error, text = ERRORS[name]
    with pytest.raises(error) as caught:
        styled_bias_act(**{**ARGUMENTS, **wrong})
    assert str(caught.value).startswith(f"gankern.styled_bias_act: {text}")


def test_x_itself_comes_back_where_there_is_nothing_to_do():
    assert styled_bias_act(X) is X
    assert styled_bias_act(X, gain=1, act="linear") is X


def case_of(what: str) -> Case:
    return next(case for case in CASES if case.what == what)


def tensors(device: str, shape: tuple[int, ...] = (3, 4, 6, 5)) -> list[torch.Tensor]:
    """x, scale, noise, strength and b."""
    n, c, h, w = shape
    generator = torch.Generator().manual_seed(5)
    shapes = (shape, (n, c), (n, 1, h, w), (), (c,))
    return [torch.randn(s, dtype=torch.float64, generator=generator).to(device) for s in shapes]


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_without_scale_and_noise_it_is_bias_act(act, backend, device):
    x, _, _, _, b = tensors(device)
    actual = styled_bias_act(x, b=b, act=act, clamp=0.9, backend=backend)
    torch.testing.assert_close(actual, bias_act(x, b, act=act, clamp=0.9, backend="eager"), rtol=1e-12, atol=1e-12)


def test_a_known_value(backend, device):
    x = torch.tensor([[[[1.0, -2.0]], [[3.0, -4.0]]]], device=device)
    scale, b = torch.tensor([[2.0, 1.0]], device=device), torch.tensor([0.0, 1.0], device=device)
    noise, strength = torch.tensor([[1.0, -1.0]], device=device), torch.tensor(0.5, device=device)
    y = styled_bias_act(x, scale, noise, strength, b, act="lrelu", alpha=0.5, gain=2, clamp=6, backend=backend)
    assert y.tolist() == [[[[5.0, -4.5]], [[6.0, -3.5]]]]


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_infinity_and_nan_propagate_as_in_the_reference(act, backend, device):
    values = torch.tensor([math.nan, math.inf, -math.inf, 0.0, 1000.0, -1000.0] * 7, device=device)
    x, scale = values.reshape(1, 2, 3, 7), torch.tensor([[1.0, 2.0]], device=device)
    expected = styled_bias_act(x, scale, act=act, clamp=7.0, backend="eager")
    actual = styled_bias_act(x, scale, act=act, clamp=7.0, backend=backend)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6, equal_nan=True)


def backward_calls(kernels: Kernels) -> list[tuple]:
    return [args for func, args in kernels.calls if func._opname == "styled_bias_act_backward"]


@pytest.mark.kernels
def test_the_backward_pass_reads_only_what_is_wanted(backend, device):
    x, scale, noise, strength, b = tensors(device)
    x.requires_grad_()
    y = styled_bias_act(x, scale, noise, strength, b, act="lrelu", backend=backend)
    assert sum(t is not None and t.shape == x.shape for t in y.grad_fn.saved_tensors) == 1  # y, not x
    with Kernels() as kernels:
        torch.autograd.grad(y.sum(), x)
    ((_, ref, read_x, read_scale, read_noise, *_, bias_gradient),) = backward_calls(kernels)
    assert ref is not None
    assert read_scale is not None
    assert (read_x, read_noise, bias_gradient) == (None, None, False)


@pytest.mark.kernels
def test_inputs_only_leaves_out_leaf_parameters_but_not_the_styles(backend, device):
    def read(inner) -> tuple[bool, bool, bool]:
        x, scale, noise, strength, b = (t.requires_grad_() for t in tensors(device))
        y = styled_bias_act(x, scale, noise.detach(), strength, b, act="lrelu", backend=backend)
        with inner(), Kernels() as kernels:
            torch.autograd.grad(y.sum(), (x, scale))
        ((_, _, read_x, _, read_noise, *_, bias_gradient),) = backward_calls(kernels)
        return read_x is not None, read_noise is not None, bias_gradient

    assert read(contextlib.nullcontext) == (True, True, True)
    assert read(gankern.inputs_only) == (True, False, False)


@pytest.mark.kernels
def test_a_path_length_penalty_is_one_kernel_a_layer_and_pass(backend, device):
    def penalty(name: str) -> tuple[list[torch.Tensor], list[str]]:
        x, scale, noise, strength, b = (t.requires_grad_() for t in tensors(device))
        with Kernels() as kernels:
            y = styled_bias_act(x, scale, noise.detach(), strength, b, act="lrelu", clamp=2.0, backend=name)
            with gankern.inputs_only():
                dx, d_scale = torch.autograd.grad((y * y.detach()).sum(), (x, scale), create_graph=True)
            gradients = torch.autograd.grad(dx.square().sum() + d_scale.square().sum(), (x, scale))
        return list(gradients), [name.split(".")[1] for name in kernels.names]

    actual, kernels = penalty(backend)
    expected, _ = penalty("eager")
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
    op = "styled_bias_act"
    assert kernels == [op, f"{op}_backward", f"{op}_backward_backward"]


@pytest.mark.kernels
@pytest.mark.parametrize("act", ["linear", "relu", "lrelu"])
def test_the_second_backward_has_derivatives_of_its_own(act, backend, device):
    x, scale, noise, _, _ = tensors(device, (2, 3, 2, 2))
    y, dy, ddx = (x.roll(i, 3) for i in (1, 2, 3))
    inputs = [t.clone().requires_grad_() for t in (dy, x, scale, noise, ddx, scale * 2, scale + 1, scale - 1)]

    def run(dy, x, scale, noise, *tangents):
        options = (act, 0.3, -0.8, 1.1, True, True)
        return library.ops(backend).styled_bias_act_backward_backward(dy, y, x, scale, noise, *tangents, *options)

    assert gradcheck(run, inputs)
    assert gradgradcheck(run, inputs)


@pytest.mark.kernels
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_one_thread_and_two_give_the_same_bits(memory_format, backend, device):
    results, threads = [], torch.get_num_threads()
    for number in (1, 2):
        torch.set_num_threads(number)
        x, *others = (t.float() for t in tensors(device, (3, 5, 131, 67)))
        inputs = [t.requires_grad_() for t in (x.contiguous(memory_format=memory_format), *others[:1], *others[2:])]
        y = styled_bias_act(inputs[0], inputs[1], others[1], *inputs[2:], act="lrelu", backend=backend)
        results.append([y, *torch.autograd.grad(y.square().sum(), inputs)])
    torch.set_num_threads(threads)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


@pytest.mark.kernels
def test_wrong_tensors_are_refused_behind_python_too(backend, device):
    if backend != "native":
        pytest.skip("Triton's functions are called through the checks of the native op's twin only")
    x, scale, noise, strength, b = tensors(device)
    op = library.ops(backend).styled_bias_act
    options = ("linear", 0.0, 1.0, None)
    for wrong in (
        (x, scale[:2], noise, strength, b),
        (x, scale.float(), noise, strength, b),
        (x, scale, noise[..., :2], strength, b),
        (x, scale, noise, b[:2], b),
        (x, scale, noise, strength, b[:2]),
        (x[0], scale, noise, strength, b),
    ):
        with pytest.raises(RuntimeError, match="must have"):
            op(*wrong, *options)
    with pytest.raises(RuntimeError, match="ref must be given"):
        library.ops(backend).styled_bias_act_backward(x, None, None, None, None, "lrelu", 0.2, 1.0, None, False)
