"""modulated_conv2d: both formulations give what sample-by-sample weights give."""

from __future__ import annotations

import pytest
import torch

from gankern import modulated_conv2d, setup_filter
from gankern.ops.bias_act import activation_funcs
from gankern.reference import modulated_conv2d as reference

RESAMPLINGS = {"same": (1, 1), "up2": (2, 1), "down2": (1, 2)}
TAILS = {
    "plain": {},
    "tail": {"act": "lrelu", "alpha": 0.3, "gain": 1.5, "clamp": 2.0},
}


def inputs(kernel=3, dtype=torch.float64, size=(3, 4, 6, 5), out_channels=2):
    torch.manual_seed(0)
    n, i = size[:2]
    x = torch.randn(size, dtype=dtype, requires_grad=True)
    weight = torch.randn([out_channels, i, kernel, kernel], dtype=dtype, requires_grad=True)
    styles = (torch.randn([n, i], dtype=dtype) + 1).requires_grad_()
    bias = torch.randn([out_channels], dtype=dtype, requires_grad=True)
    return x, weight, styles, bias


def noise_for(x, up, down):
    n, _, h, w = x.shape
    return torch.randn([n, 1, h * up // down, w * up // down], dtype=x.dtype, requires_grad=True)


def expected(
    x, weight, styles, noise, bias, up=1, down=1, padding=0, f=None, demodulate=True, flip_weight=True, **tail
):
    act = tail.get("act", "linear")
    alpha = tail.get("alpha", activation_funcs[act].def_alpha)
    gain = tail.get("gain", activation_funcs[act].def_gain)
    pads = (padding,) * 4
    options = (up, down, pads, f, demodulate, flip_weight, bias, act, alpha, gain, tail.get("clamp"))
    return reference.modulated_conv2d(x, weight, styles, noise, *options)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("demodulate", [True, False], ids=["demodulated", "raw"])
@pytest.mark.parametrize("resampling", RESAMPLINGS)
@pytest.mark.parametrize("fused_modconv", [True, False, None])
def test_equals_the_reference_in_value_and_both_gradients(fused_modconv, resampling, demodulate, tail, kernel):
    x, weight, styles, bias = inputs(kernel)
    up, down = RESAMPLINGS[resampling]
    noise = noise_for(x, up, down)
    f = setup_filter([1, 3, 3, 1])
    options = {"up": up, "down": down, "padding": kernel // 2, "demodulate": demodulate, "flip_weight": up == 1}
    options |= TAILS[tail]
    y = modulated_conv2d(x, weight, styles, noise, resample_filter=f, fused_modconv=fused_modconv, bias=bias, **options)
    truth = expected(x, weight, styles, noise, bias, f=f, **options)
    torch.testing.assert_close(y, truth, rtol=1e-10, atol=1e-10)

    parameters = [x, weight, styles, noise, bias]
    dy = torch.randn_like(y)
    results = []
    for out in (y, truth):
        first = torch.autograd.grad(out, parameters, dy, create_graph=True)
        penalty = sum(g.square().sum() for g in first)
        second = torch.autograd.grad(penalty, parameters, allow_unused=True, materialize_grads=True)
        results.append([*first, *second])
    torch.testing.assert_close(*results, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("fused_modconv", [True, False])
@pytest.mark.parametrize("resampling", RESAMPLINGS)
def test_gradients_of_both_orders_are_right(resampling, fused_modconv):
    x, weight, styles, bias = inputs(size=(2, 2, 4, 2), out_channels=1)
    up, down = RESAMPLINGS[resampling]
    noise = noise_for(x, up, down)
    f = setup_filter([1, 3, 3, 1])

    def op(x, weight, styles, noise, bias):
        options = {"up": up, "down": down, "padding": 1, "resample_filter": f, "fused_modconv": fused_modconv}
        return modulated_conv2d(x, weight, styles, noise, bias=bias, act="sigmoid", **options)

    assert torch.autograd.gradcheck(op, (x, weight, styles, noise, bias))
    assert torch.autograd.gradgradcheck(op, (x, weight, styles, noise, bias))


def test_demodulated_weights_have_unit_norm():
    x, weight, styles, _ = inputs(kernel=1, size=(2, 64, 1, 1))
    rows = []
    for i in range(64):
        basis = torch.zeros_like(x)
        basis[:, i] = 1
        rows.append(modulated_conv2d(basis, weight, styles)[:, :, 0, 0])
    norm = torch.stack(rows, dim=2).square().sum(dim=2)  # [N, O]
    torch.testing.assert_close(norm, torch.ones_like(norm), rtol=1e-8, atol=0)


@pytest.mark.parametrize("shape", [[6, 5], [1, 1, 6, 5], [3, 1, 6, 5]], ids=str)
def test_noise_of_every_shape_is_added(shape):
    x, weight, styles, _ = inputs()
    noise = torch.randn(shape, dtype=x.dtype)
    y = modulated_conv2d(x, weight, styles, noise, padding=1)
    silent = modulated_conv2d(x, weight, styles, padding=1)
    torch.testing.assert_close(y - silent, noise.expand(3, 2, 6, 5), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [[], [2]], ids=["scalar", "per_channel"])
@pytest.mark.parametrize("fused_modconv", [True, False])
def test_the_noise_strength_is_a_factor_with_a_gradient(fused_modconv, shape):
    x, weight, styles, _ = inputs()
    noise, strength = noise_for(x, 1, 1), torch.full(shape, 0.7, dtype=x.dtype, requires_grad=True)
    options = {"padding": 1, "fused_modconv": fused_modconv, "act": "lrelu"}
    y = modulated_conv2d(x, weight, styles, noise, noise_strength=strength, **options)
    bias = torch.zeros([2], dtype=x.dtype)
    channels = [modulated_conv2d(x, weight, styles, noise * s, bias=bias, **options) for s in strength.expand(2)]
    truth = torch.stack([channel[:, i] for i, channel in enumerate(channels)], dim=1)
    torch.testing.assert_close(y, truth)
    for a, b in zip(*(torch.autograd.grad(out.square().sum(), [noise, strength]) for out in (y, truth)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("fused_modconv", [True, False])
def test_float32_weights_serve_every_dtype(fused_modconv, dtype):
    x, weight, styles, bias = (t.detach() for t in inputs(dtype=torch.float32, size=(2, 32, 8, 8), out_channels=8))
    x = x.to(dtype)
    noise = torch.randn([8, 8])
    y = modulated_conv2d(x, weight, styles, noise, padding=1, fused_modconv=fused_modconv, bias=bias, act="lrelu")
    assert y.dtype == dtype
    wide = [t.double() for t in (x, weight, styles, noise, bias)]
    truth = expected(*wide, padding=1, act="lrelu")
    own = expected(x, weight, styles, noise, bias, padding=1, act="lrelu")
    assert (y - truth).abs().max() <= 2 * (own - truth).abs().max() + 1e-6


@pytest.mark.parametrize("fused_modconv", [True, False])
def test_float16_does_not_overflow_where_styles_and_weights_are_large(fused_modconv):
    x, weight, styles, _ = inputs(dtype=torch.float32, size=(2, 32, 8, 8))
    options = {"padding": 1, "fused_modconv": fused_modconv}
    truth = modulated_conv2d(x, weight, styles, **options)
    large = (weight * 3e4).detach().requires_grad_(), (styles * 3e4).detach().requires_grad_()
    y = modulated_conv2d(x.half(), *large, **options)
    torch.testing.assert_close(y.float(), truth, rtol=1e-2, atol=1e-2)
    gradients = torch.autograd.grad(y.float().square().mean(), large)
    true_gradients = torch.autograd.grad(truth.square().mean(), [weight, styles])
    for gradient, true_gradient in zip(gradients, true_gradients, strict=True):
        error = (gradient * 3e4 - true_gradient).abs().max() / true_gradient.abs().max()
        assert error < 2e-2


@pytest.mark.parametrize("fused_modconv", [True, False, None])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("resampling", RESAMPLINGS)
def test_keeps_the_memory_format(resampling, kernel, fused_modconv):
    x, weight, styles, bias = inputs(kernel)
    up, down = RESAMPLINGS[resampling]
    options = {"up": up, "down": down, "padding": kernel // 2, "resample_filter": setup_filter([1, 3, 3, 1])}
    options |= {"fused_modconv": fused_modconv, "noise": noise_for(x, up, down), "bias": bias, "act": "relu"}
    y = modulated_conv2d(x, weight, styles, **options)
    z = modulated_conv2d(x.contiguous(memory_format=torch.channels_last), weight, styles, **options)
    assert y.is_contiguous()
    assert z.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, z, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("fused_modconv", [True, False, None])
def test_an_empty_batch_gives_an_empty_batch(fused_modconv):
    x, weight, styles, bias = inputs(size=(0, 4, 6, 5))
    y = modulated_conv2d(x, weight, styles, padding=1, fused_modconv=fused_modconv, bias=bias)
    assert y.shape == (0, 2, 6, 5)


@pytest.mark.parametrize("shape", [[], [4], [3, 1], [3, 4]])
@pytest.mark.parametrize("fused_modconv", [True, False])
def test_an_input_gain_scales_x_and_no_weight(fused_modconv, shape):
    x, weight, styles, bias = inputs()
    input_gain = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    options = {"padding": 1, "fused_modconv": fused_modconv, "bias": bias}
    actual = modulated_conv2d(x, weight, styles, input_gain=input_gain, **options)
    expected = modulated_conv2d(x * input_gain.expand(3, 4)[:, :, None, None], weight, styles, **options)
    torch.testing.assert_close(actual, expected)
    direction = torch.randn_like(actual)
    wrt = [x, weight, styles, input_gain]
    for a, e in zip(*(torch.autograd.grad(y, wrt, direction) for y in (actual, expected)), strict=True):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("fused_modconv", [True, False, None])
def test_compiles_as_one_graph(fused_modconv, kernel):
    x, weight, styles, bias = inputs(kernel)
    options = {"padding": kernel // 2, "fused_modconv": fused_modconv, "bias": bias, "act": "lrelu"}
    compiled = torch.compile(modulated_conv2d, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, weight, styles, **options), modulated_conv2d(x, weight, styles, **options))


X, WEIGHT, STYLES = torch.zeros([2, 4, 8, 8]), torch.zeros([6, 4, 3, 3]), torch.zeros([2, 4])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": X[0]}, ValueError, r"x must have 4 dimensions \[N, C, H, W\], got \[4, 8, 8\]"),
        ({"x": X.int()}, TypeError, "x must be float64, float32, bfloat16 or float16, got torch.int32"),
        ({"weight": WEIGHT[0]}, ValueError, r"weight must have shape \[O, I, k, k\] with I = 4, got \[4, 3, 3\]"),
        (
            {"weight": WEIGHT[:, :1]},
            ValueError,
            r"weight must have shape \[O, I, k, k\] with I = 4, got \[6, 1, 3, 3\]",
        ),
        ({"weight": WEIGHT.double()}, TypeError, "weight must be of the dtype of x, torch.float32, or float32, got"),
        ({"styles": STYLES[:1]}, ValueError, r"styles must have shape \[N, I\] = \[2, 4\], got \[1, 4\]"),
        ({"styles": None}, TypeError, "styles must be a torch.Tensor, got NoneType"),
        ({"styles": STYLES.to("meta")}, ValueError, "styles must be on the device of x, cpu, got meta"),
        (
            {"input_gain": torch.zeros([6])},
            ValueError,
            r"input_gain must have shape \[\], \[I\] or \[N, I\] = .* got \[6\]",
        ),
        ({"input_gain": 2.0}, TypeError, "input_gain must be a torch.Tensor, got float"),
        ({"noise": torch.zeros([8, 8])}, ValueError, r"noise must have shape \[H, W\], .* = 2, 6, 6, got \[8, 8\]"),
        ({"noise": torch.zeros([6, 6, 6, 6])}, ValueError, r"noise must have shape .* got \[6, 6, 6, 6\]"),
    ],
)
def test_says_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=f"gankern.modulated_conv2d: {message}"):
        modulated_conv2d(**{"x": X, "weight": WEIGHT, "styles": STYLES, **arguments})
