"""SpectralNorm, and attach_spectral_norm for a network that normalises itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from gankern.checks import bad_value
from gankern.ops.spectral_norm_batched import spectral_norm_batched

TRANSPOSED = (torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)
NORMALISED = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.Linear, torch.nn.Embedding, *TRANSPOSED)
NORMALISER, SHARED = "_spectral_normaliser", "_shared_weights"  # attributes of a network that normalises itself
LAYOUTS = {"biggan": ("weight", "u0"), "torch": ("weight_orig", "weight_u")}


@dataclass(frozen=True)
class _Normaliser:
    """Which layers of a network are normalised, and how."""

    names: tuple[str, ...]
    layout: str
    eps: float
    num_iters: int
    num_svs: int

    def weights(self, network: torch.nn.Module) -> dict[str, torch.Tensor]:
        """The normalised weight of each layer, by its name in the network, "<layer>.weight"; renews u in training."""
        layers = [network.get_submodule(name) for name in self.names]
        weight, u = LAYOUTS[self.layout]
        biggan = self.layout == "biggan"
        if network.training and self.num_svs > 1:
            for layer in layers:
                _renew_further_singular_vectors(layer, self.num_svs, self.num_iters, self.eps)
        normalised = spectral_norm_batched(
            [getattr(layer, weight) for layer in layers],
            [getattr(layer, u) for layer in layers],
            vs=None if biggan else [layer.weight_v for layer in layers],  # type: ignore[misc]
            sigmas=[layer.sv0 for layer in layers] if biggan else None,  # type: ignore[misc]
            eps=self.eps,
            num_iters=self.num_iters,
            training=network.training,
            dim=[_dim(layer) for layer in layers],
        )
        return {_join(name, "weight"): value for name, value in zip(self.names, normalised, strict=True)}

    def before(self, network: torch.nn.Module, args: Any) -> None:
        """A forward pre-hook: each layer finds its normalised weight before its parameter."""
        shared = network.__dict__.get(SHARED)
        for name, weight in (self.weights(network) if shared is None else shared).items():
            network.get_submodule(name.rpartition(".")[0]).__dict__["weight"] = weight

    def after(self, network: torch.nn.Module, args: Any, output: Any) -> None:
        """A forward hook: the layers are as before, also after an error in the network."""
        for name in self.names:
            network.get_submodule(name).__dict__.pop("weight", None)


def attach_spectral_norm(
    network: torch.nn.Module,
    layout: str = "biggan",
    *,
    skip: Collection[str] = (),
    eps: float = 1e-12,
    num_iters: int = 1,
    num_svs: int = 1,
) -> None:
    """Makes a network use spectrally normalised weights, all normalised in one call before each forward pass.

    As the last line of a network's `__init__` it is all there is to do: the code of the network does not change, its
    layers find normalised weights as `layer.weight` while it runs. Parameters and buffers as in `SpectralNorm`.

    Args:
        network, layout, skip, eps, num_iters: As in `SpectralNorm`.
        num_svs: Largest singular values to watch, in buffers sv0, sv1, ... with their vectors u0, u1, ...; only the
            first one normalises. More than one cost a power iteration per layer in plain PyTorch. Layout 'biggan'.

    Raises:
        ValueError: a name in `skip` or `layout` is unknown, or num_svs does not fit.

    Source: As of `SpectralNorm`.
    """
    normaliser = _prepare(network, layout, skip, eps, num_iters, num_svs)
    if normaliser.names:
        network.__dict__[NORMALISER] = normaliser
        network.register_forward_pre_hook(normaliser.before)
        network.register_forward_hook(normaliser.after, always_call=True)


@contextmanager
def shared_spectral_norm(*networks: torch.nn.Module) -> Iterator[None]:
    """Inside, networks normalise their weights once, at the start, and not at each forward pass.

    For a step whose batch goes through them in parts: it is cheaper, and the gradient is that of the whole batch, as
    all parts see the same weights. Gradients reach the parameters when the context ends; inside, only `backward()`
    finds them, not `torch.autograd.grad`.

    Args:
        networks: With `attach_spectral_norm`; those without are left alone.
    """
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
    for network in networks:
        normaliser = network.__dict__.get(NORMALISER)
        if normaliser is not None:
            weights = normaliser.weights(network)
            leaves = {name: w.detach().requires_grad_(w.requires_grad) for name, w in weights.items()}
            network.__dict__[SHARED] = leaves
            pairs += zip(weights.values(), leaves.values(), strict=True)
    try:
        yield
        used = [(weight, leaf.grad) for weight, leaf in pairs if leaf.grad is not None]
        if used:
            torch.autograd.backward([weight for weight, _ in used], [gradient for _, gradient in used])
    finally:
        for network in networks:
            network.__dict__.pop(SHARED, None)


class SpectralNorm(torch.nn.Module):
    """A network whose convolutions, linear layers and embeddings use spectrally normalised weights.

    All weights are normalised in one call at the start of each forward pass (`gankern.spectral_norm_batched`), and the
    network runs with the results in their place; its code does not change. The buffers belong to the layers, and the
    state dict is the network's own, without a prefix:

    - layout 'biggan': `<layer>.weight`, `<layer>.u0` [1, O], `<layer>.sv0` [1], as in BigGAN-PyTorch; v is recomputed;
    - layout 'torch': `<layer>.weight_orig`, `<layer>.weight_u` [O], `<layer>.weight_v` [K], as
      `torch.nn.utils.spectral_norm` and PyTorch-StudioGAN have them.

    In training each forward pass renews u, under `torch.no_grad()` too. A network of one's own needs no wrapper:
    see `attach_spectral_norm`.

    Args:
        network: Changed in place: its layers get buffers, and in layout 'torch' parameters of another name.
        layout: 'biggan' or 'torch'.
        skip: Names, as in `named_modules()`, of layers or of whole parts to leave alone, e.g. {"shared"}.
        eps: As in `gankern.spectral_norm_batched`.
        num_iters: Power iterations per forward pass in training.

    Source: Miyato et al., "Spectral Normalization for Generative Adversarial Networks", 2018; for generators as well:
        Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis", 2019.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        layout: str = "biggan",
        *,
        skip: Collection[str] = (),
        eps: float = 1e-12,
        num_iters: int = 1,
    ) -> None:
        super().__init__()
        self.normaliser = _prepare(network, layout, skip, eps, num_iters, 1)
        self.network = network
        self.register_state_dict_post_hook(_without_prefix)
        self.register_load_state_dict_pre_hook(_with_prefix)

    def normalised_weights(self) -> dict[str, torch.Tensor]:
        """The weight of each layer, by its name in the network, "<layer>.weight"; renews u in training."""
        return self.normaliser.weights(self.network)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the network on its normalised weights."""
        return torch.func.functional_call(self.network, self.normalised_weights(), args, kwargs)

    def extra_repr(self) -> str:
        norm = self.normaliser
        return f"layout='{norm.layout}', eps={norm.eps}, num_iters={norm.num_iters}, {len(norm.names)} layers"


def _prepare(
    network: torch.nn.Module, layout: str, skip: Collection[str], eps: float, num_iters: int, num_svs: int
) -> _Normaliser:
    """Gives the layers of the network their buffers."""
    if layout not in LAYOUTS:
        raise bad_value("nn.SpectralNorm", "layout", f"be one of {', '.join(LAYOUTS)}", repr(layout))
    modules = dict(network.named_modules())
    unknown = sorted(set(skip) - set(modules))
    if unknown:
        raise bad_value("nn.SpectralNorm", "skip", "name modules of the network", unknown)
    if num_svs < 1 or (num_svs > 1 and layout != "biggan"):
        raise bad_value("nn.SpectralNorm", "num_svs", "be at least 1, and 1 in layout 'torch'", num_svs)
    names = tuple(
        name
        for name, module in modules.items()
        if isinstance(module, NORMALISED) and not any(name == s or name.startswith(f"{s}.") for s in skip)
    )
    for name in names:
        _add_buffers(modules[name], layout, num_svs)
    return _Normaliser(names, layout, eps, num_iters, num_svs)


def _add_buffers(layer: torch.nn.Module, layout: str, num_svs: int) -> None:
    weight: torch.nn.Parameter = layer.weight  # type: ignore[assignment]
    rows = weight.shape[_dim(layer)]
    own: dict[str, Any] = {"dtype": weight.dtype, "device": weight.device}
    if layout == "biggan":
        for i in range(num_svs):
            layer.register_buffer(f"u{i}", F.normalize(torch.randn([1, rows], **own), dim=1))
        for i in range(num_svs):
            layer.register_buffer(f"sv{i}", torch.ones([1], **own))
        return
    del layer.weight
    layer.register_parameter("weight_orig", weight)
    layer.register_buffer("weight_u", F.normalize(torch.randn([rows], **own), dim=0))
    layer.register_buffer("weight_v", F.normalize(torch.randn([weight.numel() // rows], **own), dim=0))


@torch.no_grad()
def _renew_further_singular_vectors(layer: Any, num_svs: int, num_iters: int, eps: float) -> None:
    """Power iterations for u1, u2, ..., each made orthogonal to those before it; u0 is left to the batched call."""
    matrix = layer.weight.movedim(_dim(layer), 0).flatten(1)  # [O, K]
    us = [getattr(layer, f"u{i}")[0] for i in range(num_svs)]  # each [O]
    for _ in range(num_iters):
        new_us: list[torch.Tensor] = []
        vs: list[torch.Tensor] = []
        for u in us:
            vs.append(F.normalize(_orthogonal_to(vs, matrix.t() @ u), dim=0, eps=eps))  # [K]
            new_us.append(F.normalize(_orthogonal_to(new_us, matrix @ vs[-1]), dim=0, eps=eps))  # [O]
        us = new_us
    for i in range(1, num_svs):
        getattr(layer, f"u{i}").copy_(us[i][None])
        getattr(layer, f"sv{i}").copy_(us[i] @ matrix @ vs[i])


def _orthogonal_to(basis: list[torch.Tensor], a: torch.Tensor) -> torch.Tensor:
    """Gram-Schmidt: a without its parts along unit vectors."""
    for b in basis:
        a = a - (a @ b) * b
    return a


def _dim(layer: torch.nn.Module) -> int:
    return 1 if isinstance(layer, TRANSPOSED) else 0


def _join(*names: str) -> str:
    return ".".join(name for name in names if name)


def _without_prefix(module: torch.nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    _rename(state, f"{prefix}network.", prefix)


def _with_prefix(module: torch.nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    _rename(state, prefix, f"{prefix}network.")


def _rename(state: dict[str, Any], old: str, new: str) -> None:
    """Replaces the beginning of the keys that have it; their order stays."""
    items = [(new + key.removeprefix(old) if key.startswith(old) else key, value) for key, value in state.items()]
    state.clear()
    state.update(items)
