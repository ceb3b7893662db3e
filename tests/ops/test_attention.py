"""attention and self_attention2d: errors, known values, images of both layouts, large scores, and the module."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from case import DTYPES, LAYOUTS
from torch.autograd import gradcheck, gradgradcheck

import gankern
from gankern import attention, self_attention2d
from gankern.nn import SelfAttention2d
from gankern.ops.attention import _BLOCK as BLOCK


@pytest.fixture(autouse=True)
def skip_what_cannot_run(request):
    if "backend" in request.fixturenames:
        reason = gankern.dispatch.why_not("attention", *map(request.getfixturevalue, ("backend", "device")))
        if reason is not None:
            pytest.skip(reason)


Q = torch.zeros([2, 5, 3])
V = torch.zeros([2, 4, 6])
K = torch.zeros([2, 4, 3])

ERRORS = {
    "q_is_of_integers": ({"q": Q.int()}, TypeError, "q must be float64, float32, bfloat16 or float16, got torch.int32"),
    "q_is_a_matrix": ({"q": Q[0]}, ValueError, "q must have 3 dimensions [N, length, channels], got [5, 3]"),
    "k_is_of_another_dtype": (
        {"k": K.half()},
        TypeError,
        "k must be of the dtype of q, torch.float32, got torch.float16",
    ),
    "k_is_on_another_device": ({"k": K.to("meta")}, ValueError, "k must be on the device of x, cpu, got meta"),
    "k_is_wider": ({"k": V}, ValueError, "k must have shape [N, S, D] = [2, S, 3] with S >= 1, got [2, 4, 6]"),
    "there_are_no_keys": ({"k": K[:, :0]}, ValueError, "with S >= 1, got [2, 0, 3] (q is [2, 5, 3])"),
    "v_is_shorter": ({"v": V[:, :3]}, ValueError, "v must have shape [N, S, E] = [2, 4, E], got [2, 3, 6]"),
    "scale_is_a_tensor": ({"scale": torch.ones([])}, TypeError, "scale must be a number, got Tensor"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_wrong_argument_is_named_with_what_was_expected(name):
    wrong, error, text = ERRORS[name]
    with pytest.raises(error) as caught:
        attention(**{"q": Q, "k": K, "v": V, **wrong})
    assert str(caught.value).startswith("gankern.attention: ")
    assert text in str(caught.value)


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="phi must have 4 dimensions"):
        self_attention2d(Q[..., None], Q, Q[..., None])
    with pytest.raises(ValueError, match=r"g must have the height and width of phi, \[2, 2\], got \[2, 3\]"):
        self_attention2d(torch.zeros([1, 3, 4, 4]), torch.zeros([1, 3, 2, 2]), torch.zeros([1, 3, 2, 3]))


def test_without_channels_every_key_counts_the_same(backend, device):
    q, k, v = (torch.ones([2, length, d], device=device, requires_grad=True) for length, d in ((5, 0), (3, 0), (3, 4)))
    y = gankern.attention(q, k, v, backend=backend)
    gradients = torch.autograd.grad(y.sum(), (q, k, v))
    assert torch.allclose(y, torch.ones_like(y))
    assert torch.allclose(gradients[2], torch.full_like(v, 5 / 3))


def test_is_torchs_own_attention(backend, device):
    q, k, v = (torch.randn(shape).to(device) for shape in ([2, 9, 4], [2, 7, 4], [2, 7, 5]))
    expected = F.scaled_dot_product_attention(q, k, v, scale=0.7)
    torch.testing.assert_close(attention(q, k, v, 0.7, backend=backend), expected)


def test_one_key_is_copied_and_large_scores_do_not_overflow(backend, device):
    q, k, v = (torch.randn(shape).to(device) for shape in ([2, 9, 4], [2, 7, 4], [2, 7, 5]))
    one = attention(q, k[:, :1], v[:, :1], backend=backend)
    torch.testing.assert_close(one, v[:, :1].expand(2, 9, 5))
    torch.testing.assert_close(
        attention(1e3 * q, k, v, backend=backend), attention(1e3 * q.double(), k.double(), v.double()).float()
    )


def gradients_to_second_order(inputs, backend):
    """y; dq, dk, dv; and their own gradient."""
    inputs = [t.detach().requires_grad_() for t in inputs]
    y = attention(*inputs, 0.7, backend=backend)
    first = torch.autograd.grad(y.square().sum(), inputs, create_graph=True)
    return [y, *first, *torch.autograd.grad(sum(d.square().sum() for d in first), inputs)]


@pytest.mark.parametrize("block", [1, 20, 64, 200])
@pytest.mark.parametrize("dtype", ["fp64", "bf16"])
def test_blocks_of_queries_and_of_samples_change_nothing(block, dtype, backend, device, monkeypatch):
    monkeypatch.setitem(BLOCK, device, block)  # one row; two rows; six, of nine; three samples, of five
    q, k, v = (torch.randn(shape).to(device, DTYPES[dtype]) for shape in ([5, 9, 4], [5, 7, 4], [5, 7, 3]))
    actual = gradients_to_second_order([q, k, v], backend)
    expected = gradients_to_second_order([q.double(), k.double(), v.double()], "eager")
    bound = 1e-11 if dtype == "fp64" else 2**-5
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a.double(), e, rtol=bound, atol=bound * e.abs().max().item())


def test_no_matrix_of_weights_is_kept_for_the_backward_pass(backend, device):
    if backend == "eager":
        pytest.skip("it does keep one")
    inputs = [torch.randn(shape, device=device).requires_grad_() for shape in ([2, 64, 3], [2, 32, 3], [2, 32, 5])]
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        attention(*inputs, backend=backend)
    assert sizes
    assert max(sizes) <= 2 * 64 * 5  # those of the output; the weights are 2 * 64 * 32


def maps(dtype, device, layout="contiguous"):
    generator = torch.Generator().manual_seed(8)
    shapes = ([2, 3, 4, 6], [2, 3, 2, 3], [2, 5, 2, 3])
    return [
        LAYOUTS[layout](torch.randn(shape, dtype=torch.float64, generator=generator).to(device, dtype)).requires_grad_()
        for shape in shapes
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pixels_attend_to_pixels_in_every_layout(layout, backend, device):
    results = []
    for one in ("contiguous", layout):
        inputs = maps(torch.float64, device, one)
        y = self_attention2d(*inputs, backend=backend)
        results.append([y, *torch.autograd.grad(y.square().sum(), inputs)])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    is_last = layout == "channels_last"
    assert y.is_contiguous(memory_format=torch.channels_last if is_last else torch.contiguous_format)
    theta, phi, g = maps(torch.float64, device)
    weights = torch.einsum("ncij,ncab->nijab", theta, phi).flatten(3).softmax(-1).unflatten(3, phi.shape[2:])
    torch.testing.assert_close(results[0][0], torch.einsum("nijab,neab->neij", weights, g))


def test_derivatives_of_images_are_right_to_second_order(backend, device):
    inputs = [t.detach()[:1, :2, :2, :2].requires_grad_() for t in maps(torch.float64, device)]
    run = lambda *inputs: self_attention2d(*inputs, backend=backend)  # noqa: E731
    assert gradcheck(run, inputs)
    assert gradgradcheck(run, inputs)


def test_the_module_has_the_published_names_and_starts_as_the_identity():
    module = SelfAttention2d(16)
    shapes = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    assert shapes == {
        "theta.weight": (2, 16, 1, 1),
        "phi.weight": (2, 16, 1, 1),
        "g.weight": (8, 16, 1, 1),
        "o.weight": (16, 8, 1, 1),
        "gamma": (),
    }
    x = torch.randn([2, 16, 6, 4])
    assert torch.equal(module(x), x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_module_adds_gamma_times_what_it_attends_to(dtype):
    module = SelfAttention2d(16).to(DTYPES[dtype])
    torch.nn.init.constant_(module.gamma, 0.5)
    x = torch.randn([2, 16, 6, 4], dtype=DTYPES[dtype])
    attended = self_attention2d(module.theta(x), F.max_pool2d(module.phi(x), 2), F.max_pool2d(module.g(x), 2))
    bound = 8 * torch.finfo(x.dtype).eps
    torch.testing.assert_close(module(x), x + 0.5 * module.o(attended), rtol=bound, atol=bound)


def test_the_module_compiles_without_a_graph_break():
    torch._dynamo.reset()
    module = SelfAttention2d(16)
    torch.nn.init.constant_(module.gamma, 0.5)
    x = torch.randn([1, 16, 4, 4])
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), module(x))
    assert gankern.explain("attention", x).count("<- runs") == 1
