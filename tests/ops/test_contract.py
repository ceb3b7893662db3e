"""What every op promises, for every case of cases.py on every backend that can run here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import torch
from case import DTYPES, LAYOUTS, Case, Kernels, like_random
from cases import CASES
from cases_bias_act import ACTIVATIONS
from torch.autograd import gradcheck, gradgradcheck

import gankern
from gankern import library
from gankern.reference.bias_act import activation_funcs

CORE = [case for case in CASES if case.core]
SMALL = [case for case in CASES if case.small]
THIRD = [case for case in CASES if case.third]

CONSTANTS = ("f",)  # arguments of kernels that have no gradient

# float64: both sides round differently in about 1e-16 each of at most some hundred terms.
# float32: 24 bits of mantissa are 6e-8; sums of up to 1024 terms and exp to 1e-6 stay below 1e-5.
TOLERANCE = {"fp64": {"rtol": 1e-10, "atol": 1e-11}, "fp32": {"rtol": 1e-5, "atol": 1e-5}}


def each(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.id for case in cases])


@pytest.fixture(autouse=True)
def skip_what_cannot_run(request):
    """A backend may have kernels for some ops only."""
    if "case" in request.fixturenames and "backend" in request.fixturenames:
        case, backend, device = (request.getfixturevalue(name) for name in ("case", "backend", "device"))
        reason = gankern.dispatch.why_not(case.kernel, backend, device)
        if reason is not None:
            pytest.skip(reason)


def named(what: str) -> Callable[[str], str]:
    return lambda message: f"{what}: {message}"


def away_from_the_clamp(y: torch.Tensor, case: Case) -> torch.Tensor:
    """A gradient that is zero where 16-bit rounding decides whether y is clamped."""
    clamp = case.options.get("clamp")
    dy = like_random(y)
    return dy if clamp is None else dy * ((y.abs() - clamp).abs() > 2**-6)


def test_memory_that_nobody_wrote_is_nan():
    x = torch.zeros([2, 3])
    for fresh in (torch.empty([5]), torch.empty_like(x), x.new_empty([4]), torch.ops.aten.empty_like(x)):
        assert fresh.isnan().all()


@pytest.mark.parametrize("dtype", ["fp64", "fp32"])
@each(CASES)
def test_equals_the_float64_reference(case, dtype, backend, device):
    arguments = case.arguments(DTYPES[dtype], device)
    actual = case.run_with_gradients(arguments, backend)
    expected = case.run_with_gradients(case.widened(arguments), "eager")
    for name, value in actual.items():
        own = arguments[case.main if name == "y" else name[1:]]
        assert value.dtype == own.dtype, name
        tolerance = dict(TOLERANCE["fp32" if own.dtype == torch.float32 else dtype])
        if dtype == "fp32" and value.numel():
            tolerance["atol"] = max(tolerance["atol"], case.of_largest * expected[name].abs().max().item())
        torch.testing.assert_close(value.double(), expected[name].double(), **tolerance, msg=named(name))


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@each(CASES)
def test_errs_at_most_twice_as_much_as_eager(case, dtype, backend, device):
    """The 2x rule: no tolerance to tune. One unit in the last place is allowed where eager happens to be exact."""
    arguments = case.arguments(DTYPES[dtype], device)
    exact = case.widened(arguments)
    dy = away_from_the_clamp(case.run(exact, "eager"), case)
    dy = dy.to(DTYPES[dtype]).double()
    expected = case.run_with_gradients(exact, "eager", dy)
    actual = case.run_with_gradients(arguments, backend, dy)
    eager = case.run_with_gradients(arguments, "eager", dy)
    for name, value in expected.items():
        if value.numel() == 0:
            continue
        atol = torch.finfo(DTYPES[dtype]).eps * value.abs().max().item()
        error = (actual[name].double() - value).abs().max().item()
        allowed = 2 * (eager[name].double() - value).abs().max().item() + atol
        assert error <= allowed, f"{name}: off by {error:.3g}, eager by {(allowed - atol) / 2:.3g}"


@pytest.mark.kernels
@each(SMALL)
def test_derivatives_are_right_to_second_order(case, backend, device):
    arguments = case.arguments(torch.float64, device)
    names = case.differentiable(arguments)
    inputs = [arguments[name].double().requires_grad_() for name in names]

    def run(*inputs):
        return case.run({**arguments, **dict(zip(names, inputs, strict=True))}, backend)

    assert gradcheck(run, inputs)
    assert gradgradcheck(run, inputs)


@each(THIRD)
def test_derivatives_of_smooth_ops_are_right_to_third_order(case, backend, device):
    arguments = case.arguments(torch.float64, device)
    names = case.differentiable(arguments)
    if case.options.get("dim") != 0:
        arguments[case.main] = arguments[case.main][:1]  # one image is enough, and quick
    inputs = [arguments[name].double().detach().requires_grad_() for name in names]

    def gradient(dy, *inputs):
        y = case.run({**arguments, **dict(zip(names, inputs, strict=True))}, backend)
        return torch.autograd.grad(y, inputs, dy, create_graph=True)

    y = case.run({**arguments, **dict(zip(names, inputs, strict=True))}, backend)
    assert gradgradcheck(gradient, [like_random(y).requires_grad_(), *inputs])


@pytest.mark.kernels
@pytest.mark.parametrize("bias_gradient", [False, True], ids=["dx", "dx_and_db"])
@pytest.mark.parametrize("clamp", [None, 0.9], ids=["", "clamp"])
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_derivatives_of_bias_act_backward_are_right(act, clamp, bias_gradient, backend, device):
    """Called as an op of its own: `ref` is an input like any other."""
    generator = torch.Generator().manual_seed(2)
    dy, ref = (torch.randn([2, 3, 4], dtype=torch.float64, generator=generator).to(device) for _ in range(2))
    b = torch.randn([3], dtype=torch.float64, generator=generator).to(device) if act == "swish" else None
    gain = -0.8
    if act in ("tanh", "sigmoid"):
        ref = gain * torch.sigmoid(ref)  # what the activation can give

    def run(*inputs):
        dy, ref, b = (*inputs, None)[:3]
        alpha = activation_funcs[act].def_alpha
        dx, db = library.ops(backend).bias_act_backward(dy, ref, b, 1, act, alpha, gain, clamp, bias_gradient)
        return (dx, db) if bias_gradient else dx

    inputs = [value.requires_grad_() for value in (dy, ref, b) if value is not None]
    assert gradcheck(run, inputs)
    assert gradgradcheck(run, inputs)


class Discriminator(torch.nn.Module):
    """Two convolutions with everything the ops offer; the second bias is no leaf, as with equalised learning rate."""

    def __init__(self, dtype: torch.dtype, device: str) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        shapes = {"w0": [4, 3, 3, 3], "b0": [4], "w1": [2, 4, 3, 3], "b1": [2]}
        for name, shape in shapes.items():
            value = torch.randn(shape, dtype=torch.float64, generator=generator) / 3
            self.register_parameter(name, torch.nn.Parameter(value.to(dtype).to(device)))
        self.register_buffer("f", gankern.setup_filter([1, 3, 3, 1], device=device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = gankern.bias_act(torch.nn.functional.conv2d(x, self.w0, padding=1), self.b0, act="lrelu", clamp=4)
        x = gankern.downsample2d(x, self.f)
        x = gankern.bias_act(torch.nn.functional.conv2d(x, self.w1, padding=1), self.b1 * 0.5, act="swish")
        x = gankern.upfirdn2d(x, self.f, up=2, padding=[2, 1, 2, 1], gain=4)
        return gankern.bias_act(x, act="softplus", gain=0.7).mean([1, 2, 3])


def r1_loss(D: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Logistic loss plus the gradient penalty R1 with gamma 10."""
    scores = D(x)
    (gradient,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return torch.nn.functional.softplus(-scores).mean() + 5 * gradient.square().sum([1, 2, 3]).mean()


def images(dtype: torch.dtype, device: str) -> torch.Tensor:
    x = torch.randn([2, 3, 8, 8], dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    return x.to(dtype).to(device).requires_grad_()


def r1_step(backend: str, dtype: torch.dtype, device: str, loss=r1_loss, inner=contextlib.nullcontext) -> list:
    """The loss and the gradients of all parameters; the inner gradient runs inside `inner()`."""
    D = Discriminator(dtype, device)
    with gankern.use_backend(backend):
        with inner():
            value = loss(D, images(dtype, device))
        return [value.detach(), *torch.autograd.grad(value, list(D.parameters()))]


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", ["fp64", "fp32"])
def test_an_r1_penalty_equals_eagers_parameter_gradients_included(dtype, backend, device):
    expected = r1_step("eager", torch.float64, device)
    for actual, value in zip(r1_step(backend, DTYPES[dtype], device), expected, strict=True):
        torch.testing.assert_close(actual.double(), value, rtol=TOLERANCE[dtype]["rtol"] * 10, atol=1e-5)


@pytest.mark.kernels
def test_inputs_only_saves_work_and_changes_no_result(backend, device):
    expected = r1_step(backend, torch.float64, device)
    with Kernels() as kernels:
        actual = r1_step(backend, torch.float64, device, inner=gankern.inputs_only)
    for value, same in zip(actual, expected, strict=True):
        torch.testing.assert_close(value, same, rtol=0, atol=0)

    def bias_gradients(inner) -> int:
        x = images(torch.float64, device)
        D = Discriminator(torch.float64, device)
        with gankern.use_backend(backend), inner(), Kernels() as kernels:
            torch.autograd.grad(D(x).sum(), x)
        return sum(args[8] for func, args in kernels.calls if func._opname == "bias_act_backward")

    assert "bias_act_backward" in " ".join(kernels.names)
    assert bias_gradients(contextlib.nullcontext) == 1  # the leaf bias; nobody needs that of `b1 * 0.5`
    assert bias_gradients(gankern.inputs_only) == 0


@pytest.mark.kernels
@each(CORE)
def test_gradients_stay_on_the_backend_of_the_forward(case, backend, device):
    arguments = case.arguments(torch.float64, device)
    x = arguments[case.main].requires_grad_()
    y = case.run(arguments, backend)
    with Kernels() as kernels, gankern.use_backend("eager"):
        (dx,) = torch.autograd.grad(y, x, like_random(y).requires_grad_(), create_graph=True)
        torch.autograd.grad(dx.square().sum(), x, allow_unused=True)
    assert kernels.names
    assert all(name.startswith(f"{library.NAMESPACES[backend]}.") for name in kernels.names)


@pytest.mark.kernels
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@each([*CORE, *(case for case in CASES if case.what == "lrelu-no_bias" or case.what == "sigmoid-no_channels")])
def test_passes_torchs_own_opcheck(case, layout, backend, device):
    arguments = case.arguments(torch.float32, device, layout)
    with Kernels() as kernels:
        case.run_with_gradients(arguments, backend)
    for func, args in kernels.calls:
        names = [argument.name for argument in func._schema.arguments]
        inputs = [
            a.detach().requires_grad_(a.is_floating_point() and name not in CONSTANTS)
            if isinstance(a, torch.Tensor)
            else a
            for name, a in zip(names, args, strict=True)
        ]
        torch.library.opcheck(func, tuple(inputs))


@each(CORE)
def test_compiles_without_a_graph_break(case, backend, device):
    torch._dynamo.reset()
    arguments = case.arguments(torch.float32, device)
    expected = case.run_with_gradients(arguments, backend)
    compiled = torch.compile(
        lambda arguments: case.run(arguments, backend), fullgraph=True, backend="aot_eager", dynamic=False
    )
    inputs = {name: arguments[name].detach().requires_grad_() for name in case.differentiable(arguments)}
    y = compiled({**arguments, **inputs})
    gradients = torch.autograd.grad(y, list(inputs.values()), like_random(y))
    for actual, value in zip([y, *gradients], expected.values(), strict=True):
        torch.testing.assert_close(actual, value, rtol=1e-6, atol=1e-6)


def test_compiles_with_symbolic_shapes(backend, device):
    torch._dynamo.reset()
    f = gankern.setup_filter([1, 3, 3, 1], device=device)

    def layer(x, b):
        return gankern.upsample2d(gankern.bias_act(x, b, act="lrelu", backend=backend), f, backend=backend)

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    b = torch.randn([3], device=device)
    for n, h, w in ((2, 4, 5), (3, 7, 6)):
        x = torch.randn([n, 3, h, w], device=device)
        torch.testing.assert_close(compiled(x, b), layer(x, b), rtol=1e-6, atol=1e-6)


def test_a_compiled_r1_penalty_equals_eager(backend, device):
    """Catches a derivative that Dynamo sees through: such a second order is silently lost."""
    torch._dynamo.reset()
    expected = r1_step("eager", torch.float64, device)
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        compiled = torch.compile(r1_loss, fullgraph=True, backend="aot_eager")
        actual = r1_step(backend, torch.float64, device, loss=compiled)
    for value, same in zip(actual, expected, strict=True):
        torch.testing.assert_close(value, same, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
@each(CORE)
def test_strides_change_nothing_but_the_memory_format(case, layout, backend, device):
    expected = case.run_with_gradients(case.arguments(torch.float64, device), backend)
    arguments = case.arguments(torch.float64, device, layout)
    actual = case.run_with_gradients(arguments, backend)
    for name, value in actual.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)
    if layout in ("contiguous", "channels_last"):
        memory_format = getattr(torch, f"{layout}_format" if layout == "contiguous" else layout)
        gradients = case.images if backend != "eager" else ()  # torch's own gradients are laid out as torch likes
        names = ["y"] if actual["y"].ndim == 4 else []
        for name in [*names, *(f"d{name}" for name in gradients if f"d{name}" in actual)]:
            assert actual[name].is_contiguous(memory_format=memory_format), name


@each(CORE)
def test_an_expanded_input_is_read_with_its_stride_0(case, backend, device):
    arguments = case.arguments(torch.float64, device)
    x = arguments[case.main][:1, :, :1].expand(case.shape)
    actual = case.run_with_gradients({**arguments, case.main: x}, backend)
    expected = case.run_with_gradients({**arguments, case.main: x.contiguous()}, backend)
    for name, value in actual.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("expanded", ["everywhere", "over_pixels", "over_the_batch"])
@each(CORE)
def test_an_expanded_gradient_is_read_with_its_stride_0(case, expanded, backend, device):
    """What sum() and mean() hand back."""
    arguments = case.arguments(torch.float64, device)
    y = case.run(arguments, backend)
    one = slice(0, 1)
    pixels = (..., *(one,) * (y.ndim - 2))
    part = {"everywhere": y[(one,) * y.ndim], "over_pixels": y[pixels], "over_the_batch": y[:1]}[expanded]
    dy = like_random(part).expand_as(y)
    actual = case.run_with_gradients(arguments, backend, dy)
    expected = case.run_with_gradients(arguments, backend, dy.contiguous())
    for name, value in actual.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)


@pytest.mark.kernels  # torch's own loops round differently at the ends of a thread's share
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@each([case for case in CORE if case.kernel == "bias_act" or case.what.startswith("binomial")])
def test_one_thread_and_two_give_the_same_bits(case, layout, backend, device):
    large = Case(case.op, case.what, (4, 3, 131, 127), case.tensors, case.options)
    arguments = large.arguments(torch.float32, device, layout)
    threads = torch.get_num_threads()
    results = []
    for number in (1, 2):
        torch.set_num_threads(number)
        results.append(large.run_with_gradients(arguments, backend))
    torch.set_num_threads(threads)
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name


@pytest.mark.kernels
@each(CORE)
def test_functorch_and_forward_mode_refuse_instead_of_being_wrong(case, backend, device):
    arguments = case.arguments(torch.float64, device)

    x = arguments[case.main]

    def run(x):
        return case.run({**arguments, case.main: x}, backend)

    with pytest.raises(RuntimeError, match=r"setup_context|functorch"):
        torch.func.grad(lambda x: run(x).sum())(x)
    with pytest.raises((RuntimeError, NotImplementedError), match=r"jvp|forward|setup_context|functorch"):
        torch.func.jvp(run, (x,), (torch.ones_like(x),))
    with torch.autograd.forward_ad.dual_level(), pytest.raises((RuntimeError, NotImplementedError)):
        run(torch.autograd.forward_ad.make_dual(x, torch.ones_like(x)))
