"""bias_act: its errors, its corners, and random arguments."""

from __future__ import annotations

import math

import pytest
import torch
from case import DTYPES
from cases_bias_act import ACTIVATIONS
from hypothesis import given, settings
from hypothesis import strategies as st

import gankern
from gankern import bias_act
from gankern.ops.bias_act import activation_funcs

X = torch.zeros([4, 64, 16, 16])
B = torch.zeros([64])
DTYPE_NAMES = "be float64, float32, bfloat16 or float16"

ERRORS = {
    "x_is_no_tensor": ({"x": [1.0]}, TypeError, "x must be a torch.Tensor, got list"),
    "x_is_of_integers": ({"x": X.int()}, TypeError, f"x must {DTYPE_NAMES}, got torch.int32"),
    "x_is_complex": ({"x": X.to(torch.complex64)}, TypeError, f"x must {DTYPE_NAMES}, got torch.complex64"),
    "x_is_a_scalar": ({"x": X.sum(), "b": None}, ValueError, "x must have at least one dimension, got a scalar tensor"),
    "b_is_no_tensor": ({"b": 1.0}, TypeError, "b must be a torch.Tensor, got float"),
    "b_is_too_short": (
        {"b": B[:32]},
        ValueError,
        "b must have shape [C] = [64], got [32] (x is [4, 64, 16, 16], dim 1)",
    ),
    "b_has_two_dimensions": ({"b": B[None]}, ValueError, "b must have shape [C] = [64], got [1, 64]"),
    "b_fits_another_dim": ({"dim": 2}, ValueError, "b must have shape [C] = [16], got [64]"),
    "b_is_of_another_dtype": (
        {"x": X.half(), "b": B.double()},
        TypeError,
        "b must be of the dtype of x, torch.float16, or float32, got torch.float64",
    ),
    "b_is_on_another_device": ({"b": B.to("meta")}, ValueError, "b must be on the device of x, cpu, got meta"),
    "x_is_on_another_device": ({"x": X.to("meta")}, ValueError, "b must be on the device of x, meta, got cpu"),
    "dim_is_too_large": ({"dim": 4}, ValueError, "dim must be in [-4, 4) (x is [4, 64, 16, 16]), got 4"),
    "dim_is_too_small": ({"dim": -5}, ValueError, "dim must be in [-4, 4)"),
    "dim_is_no_integer": ({"dim": 1.0}, ValueError, "dim must be in [-4, 4) (x is [4, 64, 16, 16]), got 1.0"),
    "act_is_unknown": ({"act": "gelu"}, ValueError, "act must be one of linear, relu, lrelu, tanh, sigmoid, elu"),
    "act_is_no_name": ({"act": None}, ValueError, "got None"),
    "alpha_is_a_tensor": ({"alpha": torch.tensor(0.2)}, TypeError, "alpha must be a number, got Tensor"),
    "gain_is_a_tensor": ({"gain": torch.tensor(2.0)}, TypeError, "gain must be a number, got Tensor"),
    "gain_is_a_string": ({"gain": "2"}, TypeError, "gain must be a number, got str"),
    "clamp_is_negative": ({"clamp": -1}, ValueError, "clamp must be None or at least 0, got -1"),
    "clamp_is_nan": ({"clamp": math.nan}, ValueError, "clamp must not be NaN, got nan"),
    "clamp_is_a_list": ({"clamp": [1.0]}, TypeError, "clamp must be a number, got list"),
    "backend_is_unknown": ({"backend": "cuda"}, ValueError, "backend must be one of native, triton, eager, got 'cuda'"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_wrong_argument_is_named_with_what_was_expected(name):
    wrong, error, text = ERRORS[name]
    with pytest.raises(error) as caught:
        bias_act(**{"x": X, "b": B, "act": "lrelu", **wrong})
    assert str(caught.value).startswith("gankern")
    assert text in str(caught.value)


def test_the_raw_op_refuses_what_would_read_out_of_bounds():
    if gankern.dispatch.why_not("bias_act", "native", "cpu"):
        pytest.skip("the native library is not built")
    op, x = torch.ops.gankern.bias_act, torch.zeros([2, 3])
    with pytest.raises(RuntimeError, match="b must have shape"):
        op(x, torch.zeros([4]), 1, "lrelu", 0.2, 1.0, None)
    with pytest.raises(RuntimeError, match="dim must be in"):
        op(x, torch.zeros([3]), 2, "lrelu", 0.2, 1.0, None)
    with pytest.raises(RuntimeError, match="act must be the name"):
        op(x, None, 1, "gelu", 0.2, 1.0, None)
    with pytest.raises(RuntimeError, match="float64, float32, bfloat16 or float16"):
        op(x.int(), None, 1, "lrelu", 0.2, 1.0, None)
    with pytest.raises(RuntimeError, match="ref must be given"):
        torch.ops.gankern.bias_act_backward(x, None, None, 1, "lrelu", 0.2, 1.0, None, False)


def test_nothing_to_do_returns_x_itself(backend, device):
    x = torch.randn([2, 3], device=device)
    assert bias_act(x, backend=backend) is x
    assert bias_act(x, act="linear", gain=1, backend=backend) is x
    assert bias_act(x, torch.zeros([3], device=device), backend=backend) is not x
    assert bias_act(x, clamp=9, backend=backend) is not x


def test_defaults_are_those_of_the_field(backend, device):
    x = torch.tensor([[-1.0, 2.0]], device=device)
    roots = {act: math.sqrt(2) if act in ("relu", "lrelu", "swish") else 1 for act in ACTIVATIONS}
    assert {act: activation_funcs[act].def_gain for act in ACTIVATIONS} == roots
    lrelu = torch.tensor([[-0.2, 2.0]], device=device) * math.sqrt(2)
    torch.testing.assert_close(bias_act(x, act="lrelu", backend=backend), lrelu)
    swish = x * torch.sigmoid(x) * math.sqrt(2)
    torch.testing.assert_close(bias_act(x, act="swish", backend=backend), swish)
    torch.testing.assert_close(bias_act(x, act="lrelu", alpha=0.5, gain=1, clamp=1, backend=backend), x.clamp(-0.5, 1))


@pytest.mark.kernels
@pytest.mark.parametrize("clamp", [None, 0.5, math.inf], ids=["no_clamp", "clamp", "clamp_inf"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_nan_infinity_and_extremes_propagate_as_in_the_reference(act, dtype, clamp, backend, device):
    largest = torch.finfo(DTYPES[dtype]).max
    values = [math.nan, math.inf, -math.inf, 0.0, -0.0, 90.0, -90.0, 1000.0, -1000.0, largest / 2, -largest / 2]
    x = torch.tensor(values * 7, dtype=DTYPES[dtype], device=device)  # long enough for the vector loop and its tail
    actual = bias_act(x, act=act, clamp=clamp, gain=1, backend=backend)
    expected = bias_act(x, act=act, clamp=clamp, gain=1, backend="eager")
    eps = torch.finfo(DTYPES[dtype]).eps
    torch.testing.assert_close(actual, expected, rtol=4 * max(eps, 1e-12), atol=4 * eps, equal_nan=True)


@pytest.mark.kernels
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_the_gradient_at_zero_is_the_references(act, backend, device):
    """A bias of zero on a picture with black pixels: u = 0 is no rare case."""
    gradients = []
    for name in (backend, "eager"):
        x = torch.zeros([2, 40], dtype=torch.float64, device=device, requires_grad=True)
        gradients += torch.autograd.grad(bias_act(x, act=act, backend=name).sum(), x)
    torch.testing.assert_close(*gradients)


def test_the_gradient_is_zero_where_the_result_reaches_the_clamp(backend, device):
    x = torch.tensor([[-9.0, -0.1, 0.1, 9.0]], device=device, requires_grad=True)
    y = bias_act(x, gain=2, clamp=1, backend=backend)
    (dx,) = torch.autograd.grad(y.sum(), x)
    assert dx.tolist() == [[0, 2, 2, 0]]


SIZES = st.lists(st.integers(0, 7), min_size=1, max_size=5)
NUMBERS = st.one_of(st.none(), st.sampled_from([0, 0.0, -1, 1, 1e-3]), st.floats(-4, 4, width=32))
LIMITS = st.one_of(st.none(), st.sampled_from([0, math.nan, math.inf, -1]), st.floats(0, 4, width=32))


@st.composite
def calls(draw):
    """Arguments of bias_act, most of them right."""
    shape = draw(SIZES)
    dtype = draw(st.sampled_from(list(DTYPES.values())))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    x = torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype)
    if draw(st.booleans()):
        x = x.permute(draw(st.permutations(range(x.ndim))))
    if draw(st.booleans()):
        x = x[..., :: draw(st.integers(1, 3))]
    dim = draw(st.one_of(st.integers(-x.ndim, x.ndim - 1), st.integers(-6, 6)))
    b = None
    if draw(st.booleans()):
        right = x.shape[dim] if -x.ndim <= dim < x.ndim else 3
        length = draw(st.sampled_from([right, right, right, right + 1, 1]))
        b_dtype = draw(st.sampled_from([dtype, dtype, torch.float32, torch.float64]))
        b = torch.randn([length], dtype=torch.float64, generator=generator).to(b_dtype)
    gain = draw(st.one_of(NUMBERS, st.just(math.nan)))
    act = draw(st.sampled_from([*ACTIVATIONS, *ACTIVATIONS, "gelu"]))
    return {"x": x, "b": b, "dim": dim, "act": act, "alpha": draw(NUMBERS), "gain": gain, "clamp": draw(LIMITS)}


def outcome(call):
    try:
        return call()
    except (ValueError, TypeError) as error:
        return type(error), str(error)


@pytest.mark.kernels
@settings(deadline=None, derandomize=True, max_examples=150)
@given(arguments=calls())
def test_any_arguments_give_the_reference_or_its_error(arguments, backend, device):
    arguments = {name: v.to(device) if isinstance(v, torch.Tensor) else v for name, v in arguments.items()}
    actual = outcome(lambda: bias_act(**arguments, backend=backend))
    eager = outcome(lambda: bias_act(**arguments, backend="eager"))
    if not isinstance(actual, torch.Tensor) or not isinstance(eager, torch.Tensor):
        assert actual == eager
        return
    x, b = arguments["x"], arguments["b"]
    exact = bias_act(**{**arguments, "x": x.double(), "b": None if b is None else b.double()}, backend="eager")
    assert actual.dtype == x.dtype
    assert actual is x or actual.stride() == torch.empty_like(x).stride()
    eps = torch.finfo(x.dtype).eps
    bound = {"rtol": 2 * max(eps, 1e-6 if x.dtype == torch.float32 else 1e-12), "atol": 8 * eps}
    torch.testing.assert_close(actual.double(), exact, **bound, equal_nan=True)
