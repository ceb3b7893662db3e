"""Winograd's kernels against float64: every layout, padding, odd size, form of weights and tail, and both gradients."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from case import LAYOUTS, WEIGHTS, like_random
from torch.autograd.functional import vjp

import gankern
from gankern import dispatch, library
from gankern.reference import winograd as reference

pytestmark = pytest.mark.skipif(
    dispatch.why_not("winograd", "native", "cpu") is not None, reason="the native library is not built"
)
kernels = library.ops("native")

# Of the largest output. That of the largest product for 16 bits: their results are rounded once, to 8 or 11 bits.
PROMISE = {torch.float32: 2e-5, torch.bfloat16: 2**-8, torch.float16: 2**-10}
PLAIN = {
    **dict.fromkeys(("scale", "out_scale", "noise", "strength", "b")),
    "act": "linear",
    "alpha": 0.0,
    "gain": 1.0,
    "clamp": None,
}
# [N, I, O, H, W]. Few tiles of 4x4 outputs, at most I / 2 or 16, and many go separate ways.
SHAPES = [
    (2, 5, 7, 9, 6),
    (1, 16, 32, 8, 8),
    (3, 33, 70, 5, 41),
    (1, 64, 64, 33, 70),
    (2, 130, 9, 12, 4),
    (1, 1, 1, 1, 1),
    (1, 3, 1, 2, 19),
    (2, 165, 130, 6, 10),
    (1, 261, 33, 9, 14),
    (1, 150, 40, 32, 37),
]
FORMATS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
each_padding = pytest.mark.parametrize("padding", [(1, 1), (0, 2), (2, 0)], ids=str)
each_format = pytest.mark.parametrize("memory_format", FORMATS.values(), ids=FORMATS)


class Layer:
    """Random tensors of one convolution [N, I, O, H, W]; its results are of the size of 1."""

    def __init__(self, shape, padding=(1, 1), memory_format=torch.contiguous_format, dtype=torch.float32):
        n, i, o, h, w = shape
        self.padding = padding
        self.out = (n, o, h + 2 * padding[0] - 2, w + 2 * padding[1] - 2)
        if min(self.out[2:]) < 1:
            pytest.skip("there is no output")
        self.x = torch.randn([n, i, h, w]).to(dtype).contiguous(memory_format=memory_format)
        self.dy = torch.randn(self.out).to(dtype).contiguous(memory_format=memory_format)
        self.w = torch.randn([o, i, 3, 3]) / (3 * i**0.5)

    def tail(self, act="lrelu", clamp=1.5, noises=1):
        n, o, h, w = self.out
        return {
            "scale": torch.randn([n, self.x.shape[1]]),
            "out_scale": 0.5 + torch.rand([n, o]),
            "noise": torch.randn([noises, 1, h, w]),
            "strength": torch.tensor(0.3),
            "b": torch.randn([o]),
            "act": act,
            "alpha": 0.2,
            "gain": 1.3,
            "clamp": clamp,
        }

    def forward(self, **tail):
        return kernels.winograd_conv2d(self.x, self.w, *self.padding, False, *{**PLAIN, **tail}.values())

    def exactly(self, **tail):
        widened = {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in tail.items()}
        return reference.winograd_layer(self.x.double(), self.w.double(), self.padding, **widened)


def error(actual: torch.Tensor, exact: torch.Tensor) -> float:
    assert actual.shape == exact.shape
    return ((actual.double() - exact).abs().max() / exact.abs().max()).item()


@each_format
@each_padding
@each_shape
def test_forward_is_within_the_promise(shape, padding, memory_format):
    layer = Layer(shape, padding, memory_format)
    y = layer.forward()
    assert error(y, layer.exactly()) < PROMISE[torch.float32]
    assert y.is_contiguous(memory_format=memory_format)


@each_format
@each_padding
@each_shape
def test_both_gradients_are_within_the_promise(shape, padding, memory_format):
    layer = Layer(shape, padding, memory_format)
    py, px = padding
    dx = kernels.winograd_conv2d(layer.dy, layer.w, 2 - py, 2 - px, True, *PLAIN.values())
    dw = kernels.winograd_weight_gradient(layer.x, layer.dy, py, px, None, None)
    inputs = (layer.x.double(), layer.w.double())
    _, exact = vjp(lambda x, w: reference.winograd(x, w, padding, False), inputs, layer.dy.double())
    assert error(dx, exact[0]) < PROMISE[torch.float32]
    assert error(dw, exact[1]) < PROMISE[torch.float32]


@pytest.mark.parametrize("transposed", [False, True], ids=["straight", "transposed"])
@pytest.mark.parametrize("shape", [(1, 150, 70, 8, 9), (1, 70, 40, 22, 31)], ids=["few_tiles", "many_tiles"])
@pytest.mark.parametrize("form", WEIGHTS)
def test_weights_of_any_form_are_within_the_promise(form, shape, transposed):
    layer = Layer(shape)
    x, w = layer.dy if transposed else layer.x, WEIGHTS[form](layer.w)
    y = kernels.winograd_conv2d(x, w, 1, 1, transposed, *PLAIN.values())
    assert error(y, reference.winograd(x.double(), w.double(), (1, 1), transposed)) < PROMISE[torch.float32]


@pytest.mark.parametrize("shape", [(2, 165, 130, 6, 10), (1, 520, 8, 78, 85)], ids=["at_once", "of_several_groups"])
@each_format
def test_the_weight_gradient_of_many_channels_is_within_the_promise(shape, memory_format):
    layer = Layer(shape, (1, 1), memory_format)
    dw = kernels.winograd_weight_gradient(layer.x, layer.dy, 1, 1, None, None)
    exact = reference.winograd_weight_gradient(layer.x.double(), layer.dy.double(), (1, 1))
    assert error(dw, exact) < PROMISE[torch.float32]


@pytest.mark.parametrize("size", [8, 32])
def test_512_channels_keep_the_promise_with_room_to_spare(size):
    layer = Layer((1, 512, 512, size, size))
    inputs = (layer.x.double(), layer.w.double())
    _, exact = vjp(lambda x, w: reference.winograd(x, w, (1, 1), False), inputs, layer.dy.double())
    dw = kernels.winograd_weight_gradient(layer.x, layer.dy, 1, 1, None, None)
    assert error(layer.forward(), layer.exactly()) < PROMISE[torch.float32] / 2
    assert error(dw, exact[1]) < PROMISE[torch.float32] / 2


def test_images_of_large_mean_keep_the_promise():
    layer = Layer((1, 256, 64, 16, 16))
    layer.x += 100
    assert error(layer.forward(), layer.exactly()) < PROMISE[torch.float32]


@each_format
@pytest.mark.parametrize("shape", SHAPES[:5], ids=lambda s: "x".join(map(str, s)))
def test_scales_noise_bias_and_activation_are_those_of_the_reference(shape, memory_format):
    layer = Layer(shape, (1, 1), memory_format)
    tail = layer.tail(noises=shape[0])
    assert error(layer.forward(**tail), layer.exactly(**tail)) < PROMISE[torch.float32]


@pytest.mark.parametrize("act", ["linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish"])
def test_every_activation_can_follow(act):
    layer = Layer((2, 9, 11, 6, 7))
    tail = layer.tail(act=act, clamp=None)
    assert error(layer.forward(**tail), layer.exactly(**tail)) < PROMISE[torch.float32]


@pytest.mark.parametrize("one", ["scale", "out_scale", "noise", "b", "gain", "clamp"])
def test_each_part_of_the_tail_stands_alone(one):
    layer = Layer((2, 9, 11, 6, 7))
    part = {one: {**layer.tail(), "clamp": 0.7}[one]}
    assert error(layer.forward(**part), layer.exactly(**part)) < PROMISE[torch.float32]


@each_format
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bit_images_are_rounded_once(dtype, memory_format):
    layer = Layer((2, 33, 40, 9, 14), (1, 1), memory_format, dtype)
    tail = layer.tail()
    y = layer.forward(**tail)
    assert y.dtype == dtype
    assert error(y, layer.exactly(**tail)) < PROMISE[dtype]
    dw = kernels.winograd_weight_gradient(layer.x, layer.dy, 1, 1, None, None)
    assert error(dw, reference.winograd_weight_gradient(layer.x.double(), layer.dy.double(), (1, 1))) < 2e-5


@each_format
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bit_results_are_rounded_as_torch_rounds(dtype, memory_format):
    """Without an image the result is the bias: ties, the largest numbers, subnormal ones, Inf and NaN."""
    ties = [1.00390625, 1.01171875, 1.00048828125, 1.00146484375]
    special = [*ties, 3.4e38, -3.4e38, 65519.0, 65520.0, 1e-39, 6e-8, float("inf"), float("nan")]
    b = torch.cat([torch.tensor(special), torch.randn(36) * torch.exp2(torch.randint(-20, 20, [36]))])
    layer = Layer((1, 3, 48, 5, 5), (1, 1), memory_format, dtype)
    layer.x.zero_()
    y = layer.forward(b=b)
    torch.testing.assert_close(y, b.to(dtype)[:, None, None].expand_as(y), rtol=0, atol=0, equal_nan=True)


def test_the_weight_gradient_takes_the_scales_of_both_sides():
    layer = Layer((3, 20, 40, 9, 14))
    scales = torch.randn([3, 20]), torch.randn([3, 40])
    dw = kernels.winograd_weight_gradient(layer.x, layer.dy, 1, 1, *scales)
    exact = reference.winograd_weight_gradient(
        layer.x.double(), layer.dy.double(), (1, 1), *(s.double() for s in scales)
    )
    assert error(dw, exact) < PROMISE[torch.float32]


@pytest.mark.parametrize(
    "shape",
    [(2, 40, 70, 19, 23), (1, 128, 96, 4, 4), (1, 8, 8, 130, 70), (2, 130, 9, 12, 4), (1, 261, 33, 9, 14)],
    ids=str,
)
def test_the_number_of_threads_changes_no_bit(shape):
    layer = Layer(shape)
    threads = torch.get_num_threads()
    results = []
    for number in (1, 2, 4, 5):
        torch.set_num_threads(number)
        dw = kernels.winograd_weight_gradient(layer.x, layer.dy, 1, 1, None, None)
        results.append((layer.forward(b=torch.ones([shape[2]]), act="swish"), dw))
    torch.set_num_threads(threads)
    for others in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], others, strict=True))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_change_nothing(layout):
    layer = Layer((2, 6, 8, 7, 9))
    expected = kernels.winograd(layer.x, layer.w, 1, 1, False)
    dw = kernels.winograd_weight_gradient(layer.x, layer.dy, 1, 1, None, None)
    x, w = LAYOUTS[layout](layer.x), LAYOUTS[layout](layer.w)
    assert torch.equal(kernels.winograd(x, w, 1, 1, False), expected)
    assert torch.equal(kernels.winograd_weight_gradient(x, LAYOUTS[layout](layer.dy), 1, 1, None, None), dw)


def test_an_empty_batch_has_an_empty_result_and_no_gradient():
    x, w = torch.empty([0, 4, 5, 5]), torch.randn([3, 4, 3, 3])
    assert kernels.winograd(x, w, 1, 1, False).shape == (0, 3, 5, 5)
    dw = kernels.winograd_weight_gradient(x, torch.empty([0, 3, 5, 5]), 1, 1, None, None)
    assert torch.equal(dw, torch.zeros([3, 4, 3, 3]))


def test_nan_spreads_within_the_tiles_that_read_it_and_no_further():
    layer = Layer((1, 4, 4, 24, 24))
    expected = layer.forward()
    layer.x[0, 1, 9, 9] = float("nan")
    y = layer.forward()
    assert y[:, :, 8:12, 8:12].isnan().all()
    assert torch.equal(y[:, :, :, 16:], expected[:, :, :, 16:])


def first_and_second_order(function, x, w):
    x, w = x.requires_grad_(), w.requires_grad_()
    y = function(x, w)
    dx, dw = torch.autograd.grad(y, (x, w), like_random(y), create_graph=True)
    return y, dx, dw, *torch.autograd.grad(dx.square().sum() + dw.square().sum(), (x, w))


@each_padding
def test_winograd_has_derivatives_of_every_order(padding):
    x, w = torch.randn([2, 3, 6, 5]), torch.randn([4, 3, 3, 3])
    actual = first_and_second_order(lambda x, w: gankern.winograd(x, w, padding, backend="native"), x, w)
    exact = first_and_second_order(
        lambda x, w: gankern.winograd(x, w, padding, backend="eager"), x.detach().double(), w.detach().double()
    )
    for value, true in zip(actual, exact, strict=True):
        assert error(value, true) < PROMISE[torch.float32]


def test_winograd_skips_the_weight_gradient_where_inputs_only_are_wanted():
    x, w = torch.randn([1, 3, 6, 6], requires_grad=True), torch.randn([4, 3, 3, 3], requires_grad=True)
    y = gankern.winograd(x, w, backend="native")
    with gankern.inputs_only():
        assert torch.autograd.grad(y.sum(), (x, w), allow_unused=True)[1] is None


@each_format
@pytest.mark.parametrize("transposed", [False, True])
def test_the_kernels_pass_torchs_own_opcheck(transposed, memory_format):
    layer = Layer((2, 3, 5, 6, 7), (1, 1), memory_format)
    x, tail = (layer.dy, PLAIN) if transposed else (layer.x, layer.tail())
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(kernels.winograd, (x.clone().requires_grad_(), layer.w, 1, 1, transposed))
    arguments = (x, layer.w, 1, 1, transposed, *tail.values())
    torch.library.opcheck(kernels.winograd_conv2d, arguments, test_utils=tests)
    torch.library.opcheck(kernels.winograd_weight_gradient, (layer.x.requires_grad_(), layer.dy, 1, 1, None, None))


X, W = torch.zeros([1, 3, 5, 5]), torch.zeros([4, 3, 3, 3])


def test_a_layer_has_no_derivative_and_says_so():
    with pytest.raises(RuntimeError, match="winograd_conv2d has no derivative: its caller owns it"):
        kernels.winograd_conv2d(X, W.clone().requires_grad_(), 1, 1, False, *PLAIN.values()).sum().backward()


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ((X, W[:, :2]), ValueError, r"w must have shape \[O, I, 3, 3\] = \[O, 3, 3, 3\], got \[4, 2, 3, 3\]"),
        ((X, W, 3), ValueError, r"padding must be in \[0, 2\], or two such numbers, got 3"),
        ((X[:, :, :2], W, 0), ValueError, r"x must be at least 3x3 with its padding, got \[1, 3, 2, 5\]"),
        ((X.double(), W), TypeError, r"x must be float32, bfloat16 or float16 unless backend='eager', got torch.fl"),
        ((X.int(), W), TypeError, "x must be float64, float32, bfloat16 or float16, got torch.int32"),
    ],
)
def test_errors_say_what_was_expected_and_what_came(arguments, kind, text):
    with pytest.raises(kind, match=text):
        gankern.winograd(*arguments)


def test_the_kernels_refuse_what_they_would_read_out_of_bounds():
    for w, transposed in ((W, True), (W.transpose(0, 1), False), (W[..., :2], False), (W[0], False)):
        with pytest.raises(RuntimeError, match=r"w must have shape \[O, I, 3, 3\], or .* if transposed, for I = 3"):
            kernels.winograd_conv2d(X, w, 1, 1, transposed, *PLAIN.values())
    with pytest.raises(RuntimeError, match="b must have 4 elements, got 5"):
        kernels.winograd_conv2d(X, W, 1, 1, False, *{**PLAIN, "b": torch.zeros([5])}.values())
    with pytest.raises(RuntimeError, match="dy must have the dtype of x and the shape of its convolution"):
        kernels.winograd_weight_gradient(X, torch.zeros([1, 4, 4, 5]), 1, 1, None, None)


@pytest.mark.slow
@pytest.mark.parametrize("level", ["baseline", "avx2"])
def test_every_instruction_set_keeps_the_promise(level):
    chosen = ["within_the_promise", "scales_noise", "every_activation", "rounded_once"]
    command = [sys.executable, "-m", "pytest", "-x", __file__, "-k", f"({' or '.join(chosen)}) and not 64x64"]
    ran = subprocess.run(command, env={**os.environ, "GANKERN_SIMD": level}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-2000:]
