"""A layer inside its convolution equals the layer made of its parts: results, gradients, and gradients of gradients."""

from __future__ import annotations

import pytest
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd

import gankern
from gankern.library import inputs_only
from gankern.ops.styled_conv2d import styled_conv2d
from gankern.reference import styled_conv2d as reference

OPTIONS = [
    ("lrelu", 2**0.5, None),
    ("lrelu", 0.7, 0.8),
    ("relu", 2**0.5, 1.5),
    ("linear", 1.0, None),
    ("linear", 0.5, 0.4),
]
LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}


def tensors(n=2, i=40, o=48, size=16, seed=0):
    """x, weight, styles, noise, noise_strength, bias."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=random)

    return [
        normal(n, i, size, size),
        normal(o, i, 3, 3) / (9 * i) ** 0.5,
        1 + 0.3 * normal(n, i),
        normal(n, 1, size, size),
        normal(),
        normal(o),
    ]


def modulated(args, dtype, options, demodulate=True, padding=1, backend=None):
    x, weight, styles, noise, strength, bias = args
    act, gain, clamp = options
    y = gankern.modulated_conv2d(
        x.to(dtype),
        weight,
        styles,
        noise,
        padding=padding,
        demodulate=demodulate,
        fused_modconv=False,
        noise_strength=strength,
        bias=bias,
        act=act,
        gain=gain,
        clamp=clamp,
        backend=backend,
    )
    return y.float() if dtype != torch.float64 else y


def leaves(args, dtype=torch.float32):
    return [t.detach().clone().to(dtype).requires_grad_() for t in args]


def called(function):
    """The names of the ops that a function calls."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Names(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.names = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.names.append(func._schema.name)
            return func(*args, **(kwargs or {}))

    with Names() as mode:
        function()
    return mode.names


def assert_close(found, expected, relative):
    for f, e in zip(found, expected, strict=True):
        assert f.shape == e.shape
        error = (f.double() - e.double()).abs().max() / e.double().abs().max().clamp_min(1e-9)
        assert error < relative, f"{error:.2e}"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("demodulate", [True, False], ids=["demodulated", "plain"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_modulated_layer_equals_float64(options, demodulate, layout):
    args = tensors()
    args[0] = args[0].contiguous(memory_format=LAYOUTS[layout])
    found = leaves(args)
    y = modulated(found, torch.float32, options, demodulate)
    expected = leaves(args, torch.float64)
    z = modulated(expected, torch.float64, options, demodulate, backend="eager")
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    y.backward(dy)
    z.backward(dy.double())
    assert y.is_contiguous(memory_format=LAYOUTS[layout])
    assert_close([y], [z], 2e-5)
    assert_close([t.grad for t in found], [t.grad for t in expected], 1e-4)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_convolution_with_bias_and_activation_equals_float64(options):
    act, gain, clamp = options
    x, weight, _, _, _, bias = tensors()
    results = []
    for dtype, backend in ((torch.float32, None), (torch.float64, "eager")):
        own = leaves([x, weight, bias], dtype)
        y = gankern.conv2d(*own, padding=1, act=act, gain=gain, clamp=clamp, backend=backend)
        (gx,) = torch.autograd.grad(y.square().sum(), own[0], create_graph=True)
        gx.square().sum().backward()
        results.append([y, gx, *(t.grad for t in own)])
    assert_close(results[0][:2], results[1][:2], 2e-5)
    assert_close(results[0][2:], results[1][2:], 1e-4)


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_every_padding_of_a_modulated_layer_equals_float64(padding):
    args = tensors(size=14)
    args[3] = torch.randn([14 + 2 * padding - 2] * 2)
    y = modulated(args, torch.float32, OPTIONS[0], padding=padding)
    z = modulated([t.double() for t in args], torch.float64, OPTIONS[0], padding=padding, backend="eager")
    assert_close([y], [z], 2e-5)


def test_path_length_through_a_layer_equals_float64():
    """The gradient of a norm of the gradient by the styles, as path length regularisation takes it."""
    results = []
    for dtype, backend in ((torch.float32, None), (torch.float64, "eager")):
        own = leaves(tensors(), dtype)
        y = modulated(own, dtype, OPTIONS[0], backend=backend)
        weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
        with inputs_only():
            (gs,) = torch.autograd.grad((y * weights).sum(), own[2], create_graph=True)
        gs.square().sum().backward()
        results.append([gs, *(torch.zeros_like(t) if t.grad is None else t.grad for t in own)])
    assert_close(results[0], results[1], 1e-4)


@pytest.mark.parametrize("options", OPTIONS[:2], ids=str)
def test_bfloat16_errs_at_most_twice_as_much_as_eager(options):
    """Over several inputs, for the gradient of the noise strength is a single number, right or wrong by luck."""
    errors = {"ours": [], "eager": []}
    for seed in range(6):
        args = tensors(seed=seed)
        dy = torch.randn(2, 48, 16, 16, generator=torch.Generator().manual_seed(100 + seed))
        exact = gradients(args, torch.float64, options, "eager", dy)
        for name, backend in (("ours", None), ("eager", "eager")):
            found = gradients(args, torch.bfloat16, options, backend, dy)
            errors[name].append([(f - e).abs().max() for f, e in zip(found, exact, strict=True)])
    ours, eager = (torch.tensor(errors[name]).amax(0) for name in ("ours", "eager"))
    assert (ours <= 2 * eager + 1e-3).all(), f"{ours} against {eager}"


def gradients(args, dtype, options, backend, dy):
    """The result and the gradients of everything."""
    own = leaves(args, torch.float64 if dtype == torch.float64 else torch.float32)
    y = modulated(own, dtype, options, backend=backend)
    y.backward(dy.to(y.dtype))
    return [y.detach(), *(t.grad for t in own)]


def test_a_layer_is_one_op_forward_and_its_parts_exist_nowhere():
    args = tensors()
    names = called(lambda: modulated(args, torch.float32, OPTIONS[0]))
    assert names.count("gankern::styled_conv2d") == 1
    assert not {"gankern::styled_bias_act", "gankern::conv2d"} & set(names)


def test_weights_of_float32_and_their_gradients_are_not_rounded():
    x, weight, _, _, _, bias = tensors()
    weight.requires_grad_()
    y = gankern.conv2d(x.bfloat16(), weight, bias, padding=1)
    y.float().sum().backward()
    exact = weight.detach().double().requires_grad_()
    z = gankern.conv2d(x.bfloat16().double(), exact, None, padding=1, backend="eager")
    z.sum().backward()
    assert_close([weight.grad], [exact.grad], 1e-5)


def test_the_reference_is_the_layer():
    x, weight, styles, noise, strength, bias = tensors()
    options = ("lrelu", 0.2, 2**0.5, 0.8)
    expected = reference.styled_conv2d(x, weight, styles, None, noise, strength, bias, [1, 1], *options)
    found = styled_conv2d(x, weight, styles, None, noise, strength, bias, [1, 1], *options)
    assert_close([found], [expected], 2e-5)


def test_noise_that_is_optimised_has_its_gradient():
    own, exact = leaves(tensors()), leaves(tensors(), torch.float64)
    (found,) = torch.autograd.grad(modulated(own, torch.float32, OPTIONS[0]).sum(), own[3])
    (expected,) = torch.autograd.grad(modulated(exact, torch.float64, OPTIONS[0], backend="eager").sum(), exact[3])
    assert_close([found], [expected], 1e-4)


def test_a_layer_compiles_into_one_graph_of_one_op_forward_and_one_backward():
    names = []

    def backend(graph, inputs):
        names.append([node.target.name() for node in graph.graph.nodes if hasattr(node.target, "name")])
        return make_boxed_func(graph.forward)

    own, exact = leaves(tensors()), leaves(tensors(), torch.float64)
    own[3].requires_grad_(False)  # the noise's gradient goes through the layer's parts
    run = torch.compile(modulated, fullgraph=True, backend=aot_autograd(fw_compiler=backend, bw_compiler=backend))
    run(own, torch.float32, OPTIONS[0]).sum().backward()
    modulated(exact, torch.float64, OPTIONS[0], backend="eager").sum().backward()
    pairs = [(f.grad, e.grad) for f, e in zip(own, exact, strict=True) if f.requires_grad]
    assert_close(*zip(*pairs, strict=True), 1e-4)
    assert "gankern::styled_conv2d" in names[0]
    assert "gankern::styled_conv2d_backward" in names[1]
