"""spectral_norm_batched and nn.SpectralNorm."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.nn.functional import normalize
from torch.nn.utils import parametrizations

from gankern import spectral_norm_batched
from gankern.nn import SpectralNorm, attach_spectral_norm, shared_spectral_norm


def biggan(weight, u, eps, training):
    """One layer as BigGAN-PyTorch does it: v and u from the stored u, at every forward pass."""
    matrix = weight.reshape(weight.shape[0], -1)
    with torch.no_grad():
        v = normalize(u @ matrix, eps=eps)
        u_new = normalize(v @ matrix.t(), eps=eps)
        if training:
            u.copy_(u_new)
    sigma = (v @ matrix.t() @ u_new.t()).squeeze()
    return weight / sigma, sigma.detach()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_biggans_over_several_steps(dtype, backend, device):
    tolerance = {"rtol": 1e-10, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
    shapes = [[7, 5, 3, 3], [6, 4], [9, 2, 1, 1]]
    weights = [torch.randn(shape, dtype=dtype, device=device, requires_grad=True) for shape in shapes]
    us = [torch.randn([1, shape[0]], dtype=dtype, device=device) for shape in shapes]
    expected_us, sigmas = [u.clone() for u in us], [torch.zeros([1], dtype=dtype, device=device) for _ in us]
    for training in (True, True, False, True):
        actual = spectral_norm_batched(weights, us, eps=1e-6, training=training, sigmas=sigmas, backend=backend)
        expected, norms = zip(
            *(biggan(w, u, 1e-6, training) for w, u in zip(weights, expected_us, strict=True)), strict=True
        )
        gradients = [torch.autograd.grad(sum(y.sin().sum() for y in ys), weights) for ys in (actual, expected)]
        for value, same in zip([*actual, *us, *gradients[0]], [*expected, *expected_us, *gradients[1]], strict=True):
            torch.testing.assert_close(value, same, **tolerance)
        if training:
            torch.testing.assert_close(torch.cat(sigmas), torch.stack(norms), **tolerance)


@pytest.mark.parametrize("channels_last", [False, True])
def test_equals_torchs_parametrization_over_training_steps(channels_last, backend, device):
    layer = torch.nn.Conv2d(4, 6, 3, device=device).double()
    if channels_last:
        layer = layer.to(memory_format=torch.channels_last)
    weight = layer.weight.detach().clone().requires_grad_()
    parametrizations.spectral_norm(layer)
    norm = layer.parametrizations.weight[0]
    us, vs = [norm._u.clone()], [norm._v.clone()]
    for training in (True, True, False, True):
        layer.train(training)
        (y,) = spectral_norm_batched([weight], us, vs=vs, order="u", training=training, backend=backend)
        expected = layer.weight
        torch.testing.assert_close(y, expected)
        (gradient,) = torch.autograd.grad(y.sin().sum(), weight)
        (same,) = torch.autograd.grad(expected.sin().sum(), layer.parametrizations.weight.original)
        torch.testing.assert_close(gradient, same)
        with torch.no_grad():
            weight -= gradient
            layer.parametrizations.weight.original -= same
    torch.testing.assert_close(us[0], norm._u)
    torch.testing.assert_close(vs[0], norm._v)


def test_two_forward_passes_before_the_backward_keep_their_own_vectors(backend, device):
    weight = torch.randn([4, 5], dtype=torch.float64, device=device, requires_grad=True)
    u = torch.randn([4], dtype=torch.float64, device=device)
    copies = [u.clone(), None]
    first = spectral_norm_batched([weight], [u], backend=backend)[0]
    copies[1] = u.clone()
    second = spectral_norm_batched([weight], [u], backend=backend)[0]
    (both,) = torch.autograd.grad((first * second).sum(), weight)
    expected = [biggan(weight, start[None], 1e-12, True)[0] for start in copies]
    torch.testing.assert_close(both, *torch.autograd.grad((expected[0] * expected[1]).sum(), weight))


def test_a_saved_buffer_that_is_renewed_is_an_error_in_backward(backend, device):
    weight, u = torch.randn([4, 5], device=device), torch.randn([4], device=device)
    scale = torch.ones([4], device=device, requires_grad=True)
    y = scale * u
    spectral_norm_batched([weight], [u], backend=backend)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_weights_that_get_no_gradient_leave_the_others_right(backend, device):
    weights = [torch.randn([3, 4], dtype=torch.float64, device=device, requires_grad=i != 1) for i in range(3)]
    us = [torch.randn([3], dtype=torch.float64, device=device) for _ in range(3)]
    alone = spectral_norm_batched(weights[:1], [us[0].clone()], backend=backend)[0]
    together = spectral_norm_batched(weights, us, backend=backend)
    (expected,) = torch.autograd.grad(alone.sin().sum(), weights[0])
    torch.testing.assert_close(torch.autograd.grad(together[0].sin().sum(), weights[0])[0], expected)


@pytest.mark.kernels
def test_one_thread_and_two_give_the_same_bits(backend, device):
    weight, u = torch.randn([200, 700], device=device, requires_grad=True), torch.randn([200], device=device)
    threads, results = torch.get_num_threads(), []
    for number in (1, 2):
        torch.set_num_threads(number)
        (y,) = spectral_norm_batched([weight], [u.clone()], backend=backend)
        results.append([y, *torch.autograd.grad(y.sin().sum(), weight)])
    torch.set_num_threads(threads)
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"weights": [torch.zeros([3, 4])] * 2}, ValueError, "us must have one element for each of 2 weights, got 1"),
        ({"weights": [torch.zeros([3])]}, ValueError, r"weights\[0\] must have two dimensions .* got \[3\]"),
        ({"us": [torch.zeros([4])]}, ValueError, r"us\[0\] must be contiguous and have 3 elements, got \[4\]"),
        ({"us": [torch.zeros([3]).half()]}, TypeError, r"us\[0\] must be of the dtype of the weights, torch.float32"),
        ({"vs": [torch.zeros([3])]}, ValueError, r"vs\[0\] must be contiguous and have 4 elements, got \[3\]"),
        ({"order": "u"}, ValueError, "vs must be given for order='u', got None"),
        ({"order": "w"}, ValueError, "order must be 'v' or 'u', got 'w'"),
        ({"num_iters": 0}, ValueError, "num_iters must be an integer of at least 1, got 0"),
        ({"dim": 2}, ValueError, r"dim must be in \[0, 2\) for weights\[0\], got 2"),
    ],
)
def test_says_what_is_wrong(arguments, error, message):
    defaults = {"weights": [torch.zeros([3, 4])], "us": [torch.zeros([3])]}
    with pytest.raises(error, match=f"gankern.spectral_norm_batched: {message}"):
        spectral_norm_batched(**{**defaults, **arguments})


class Network(torch.nn.Module):
    """A little of everything that is normalised, and an embedding that is not."""

    def __init__(self):
        super().__init__()
        self.shared = torch.nn.Embedding(5, 3)
        self.linear = torch.nn.Linear(3, 8)
        self.blocks = torch.nn.ModuleList([torch.nn.Conv2d(2, 4, 3), torch.nn.ConvTranspose2d(4, 2, 2, bias=False)])

    def forward(self, y):
        x = self.linear(self.shared(y)).view(-1, 2, 2, 2)
        return self.blocks[1](torch.relu(self.blocks[0](torch.nn.functional.pad(x, [1, 1, 1, 1]))))


Y = torch.tensor([0, 3, 4])


def test_the_state_dict_has_biggans_names_and_comes_back():
    network = SpectralNorm(Network(), skip=["shared"])
    state = network.state_dict()
    assert list(state) == [
        "shared.weight",
        *(f"linear.{name}" for name in ("weight", "bias", "u0", "sv0")),
        *(f"blocks.0.{name}" for name in ("weight", "bias", "u0", "sv0")),
        *(f"blocks.1.{name}" for name in ("weight", "u0", "sv0")),
    ]
    assert state["linear.u0"].shape == (1, 8)
    assert state["blocks.1.u0"].shape == (1, 2)
    other = torch.nn.ModuleDict({"G": SpectralNorm(Network(), skip=["shared"])})
    other.load_state_dict({f"G.{name}": value for name, value in state.items()})
    assert list(other.state_dict()) == [f"G.{name}" for name in state]
    torch.testing.assert_close(other["G"].eval()(Y), network.eval()(Y))


def test_the_network_equals_one_normalised_layer_by_layer_and_sv0_is_sigma():
    network = SpectralNorm(Network().double(), skip=["shared"], eps=1e-6)
    plain = copy.deepcopy(network.network)
    for _ in range(2):
        weights, norms = {}, {}
        for name in ("linear", "blocks.0", "blocks.1"):
            layer = plain.get_submodule(name)
            weight = layer.weight.transpose(0, 1) if name == "blocks.1" else layer.weight
            value, norms[name] = biggan(weight, layer.u0, 1e-6, True)
            weights[f"{name}.weight"] = value.transpose(0, 1) if name == "blocks.1" else value
        expected = torch.func.functional_call(plain, weights, (Y,))
        actual = network(Y)
        torch.testing.assert_close(actual, expected)
        for name, sigma in norms.items():
            torch.testing.assert_close(network.network.get_submodule(name).sv0, sigma[None])
        gradients = [torch.autograd.grad(y.sin().sum(), list(n.parameters())) for y, n in
                     ((actual, network), (expected, plain))]  # fmt: skip
        for value, same in zip(*gradients, strict=True):
            torch.testing.assert_close(value, same)


def test_layout_torch_equals_torchs_spectral_norm_names_included():
    plain = Network().double()
    network = SpectralNorm(copy.deepcopy(plain), "torch", skip=["shared"])
    for layer in (plain.linear, *plain.blocks):
        torch.nn.utils.spectral_norm(layer)
    assert set(network.state_dict()) == set(plain.state_dict())
    network.load_state_dict(plain.state_dict())
    for training in (True, True, False):
        plain.train(training), network.train(training)
        torch.testing.assert_close(network(Y), plain(Y))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value)


@pytest.mark.parametrize("layout", ["biggan", "torch"])
def test_the_network_compiles_as_one_graph(layout):
    torch._dynamo.reset()
    network = SpectralNorm(Network(), layout)
    other = copy.deepcopy(network)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        y, same = compiled(Y), network(Y)
        torch.testing.assert_close(y, same)
        for value, gradient in zip(*(torch.autograd.grad(v.square().sum(), list(n.parameters()))
                                     for v, n in ((y, other), (same, network))), strict=True):  # fmt: skip
            torch.testing.assert_close(value, gradient)
    for value, buffer in zip(other.buffers(), network.buffers(), strict=True):
        torch.testing.assert_close(value, buffer)


class SelfNormalised(Network):
    """The same, without a wrapper."""

    def __init__(self, **options):
        super().__init__()
        attach_spectral_norm(self, skip=["shared"], **options)


@pytest.mark.parametrize("layout", ["biggan", "torch"])
def test_a_network_that_normalises_itself_equals_a_wrapped_one(layout):
    network, wrapped = SelfNormalised(layout=layout), SpectralNorm(Network(), layout, skip=["shared"])
    wrapped.load_state_dict(network.state_dict(), strict=True)
    for training in (True, True, False):
        y, same = network.train(training)(Y), wrapped.train(training)(Y)
        torch.testing.assert_close(y, same)
        parameters = list(network.parameters()), list(wrapped.parameters())
        gradients = [torch.autograd.grad(v.sin().sum(), p) for v, p in zip((y, same), parameters, strict=True)]
        for value, expected in zip(*gradients, strict=True):
            torch.testing.assert_close(value, expected)
    for name, value in wrapped.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value)


def test_outside_of_its_forward_pass_it_has_its_own_weights_after_an_error_too():
    network = SelfNormalised()
    with pytest.raises(IndexError):
        network(Y + 9)
    assert isinstance(network.linear.weight, torch.nn.Parameter)
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.linear.weight.mul_(3)
        network(Y), other(Y)
    torch.testing.assert_close(other.linear.sv0, 3 * network.linear.sv0)


def test_a_network_that_normalises_itself_compiles_as_one_graph():
    torch._dynamo.reset()
    network = SelfNormalised()
    other = copy.deepcopy(network)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        torch.testing.assert_close(compiled(Y), network(Y))
    for value, buffer in zip(other.buffers(), network.buffers(), strict=True):
        torch.testing.assert_close(value, buffer)


def test_shared_over_the_parts_of_a_batch_the_gradient_is_that_of_the_whole():
    network, whole = SelfNormalised().double(), SelfNormalised().double()
    whole.load_state_dict(network.state_dict())
    for _ in range(2):
        whole(Y).square().sum().backward()
        with shared_spectral_norm(network, torch.nn.Linear(2, 2)):
            for part in Y.split(1):
                network(part).square().sum().backward()
        for value, expected in zip(network.parameters(), whole.parameters(), strict=True):
            torch.testing.assert_close(value.grad, expected.grad)
        for value, expected in zip(network.buffers(), whole.buffers(), strict=True):
            torch.testing.assert_close(value, expected)


def test_further_singular_values_are_watched_and_only_the_first_normalises():
    network, alone = SelfNormalised(num_svs=3, num_iters=2).double(), SelfNormalised(num_iters=2).double()
    alone.load_state_dict(network.state_dict(), strict=False)
    for _ in range(400):
        y, same = network(Y), alone(Y)
    torch.testing.assert_close(y, same)
    weights = {"linear": network.linear.weight, "blocks.0": network.blocks[0].weight}
    weights["blocks.1"] = network.blocks[1].weight.transpose(0, 1)
    for name, weight in weights.items():
        layer, expected = network.get_submodule(name), torch.linalg.svdvals(weight.flatten(1))
        for i, value in enumerate(expected[: min(3, len(expected))]):
            torch.testing.assert_close(getattr(layer, f"sv{i}"), value[None], rtol=1e-6, atol=1e-9)


def one_rank(rank: int, folder: Path, state: dict) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/ranks", rank=rank, world_size=2)
    network = SpectralNorm(Network())
    network.load_state_dict(state)
    parallel = torch.nn.parallel.DistributedDataParallel(network)
    for _ in range(2):
        parallel(Y[rank : rank + 1]).square().sum().backward()
    torch.save([network.state_dict(), [p.grad for p in network.parameters()]], folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_ranks_of_ddp_keep_the_same_vectors(tmp_path):
    torch.multiprocessing.spawn(one_rank, (tmp_path, SpectralNorm(Network()).state_dict()), nprocs=2)
    (state, gradients), (same, of_other) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name, value in state.items():
        assert torch.equal(value, same[name]), name
    for value, other in zip(gradients, of_other, strict=True):
        assert torch.equal(value, other)


def test_an_unknown_layout_or_name_is_refused():
    with pytest.raises(ValueError, match=r"nn.SpectralNorm: layout must be one of biggan, torch, got 'keras'"):
        SpectralNorm(Network(), "keras")
    with pytest.raises(ValueError, match=r"nn.SpectralNorm: skip must name modules of the network, got \['embed'\]"):
        SpectralNorm(Network(), skip=["embed"])
    with pytest.raises(ValueError, match=r"num_svs must be at least 1, and 1 in layout 'torch', got 2"):
        attach_spectral_norm(Network(), "torch", num_svs=2)
