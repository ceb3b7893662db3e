"""SpectralNorm."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from gankern.checks import bad_value
from gankern.ops.spectral_norm_batched import spectral_norm_batched

TRANSPOSED = (torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)
NORMALISED = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.Linear, torch.nn.Embedding, *TRANSPOSED)
LAYOUTS = {"biggan": ("weight", "u0"), "torch": ("weight_orig", "weight_u")}


class SpectralNorm(torch.nn.Module):
    """A network whose convolutions, linear layers and embeddings use spectrally normalised weights.

    All weights are normalised in one call at the start of each forward pass (`gankern.spectral_norm_batched`), and the
    network runs with the results in their place; its code does not change. The buffers belong to the layers, and the
    state dict is the network's own, without a prefix:

    - layout 'biggan': `<layer>.weight`, `<layer>.u0` [1, O], `<layer>.sv0` [1], as in BigGAN-PyTorch; v is recomputed;
    - layout 'torch': `<layer>.weight_orig`, `<layer>.weight_u` [O], `<layer>.weight_v` [K], as
      `torch.nn.utils.spectral_norm` and PyTorch-StudioGAN have them.

    In training each forward pass renews u, under `torch.no_grad()` too.

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
        if layout not in LAYOUTS:
            raise bad_value("nn.SpectralNorm", "layout", f"be one of {', '.join(LAYOUTS)}", repr(layout))
        modules = dict(network.named_modules())
        unknown = sorted(set(skip) - set(modules))
        if unknown:
            raise bad_value("nn.SpectralNorm", "skip", "name modules of the network", unknown)
        self.network = network
        self.layout = layout
        self.eps = eps
        self.num_iters = num_iters
        self.names = [
            name
            for name, module in modules.items()
            if isinstance(module, NORMALISED) and not any(name == s or name.startswith(f"{s}.") for s in skip)
        ]
        for name in self.names:
            self._prepare(modules[name])
        self.register_state_dict_post_hook(_without_prefix)
        self.register_load_state_dict_pre_hook(_with_prefix)

    def _prepare(self, layer: torch.nn.Module) -> None:
        weight: torch.nn.Parameter = layer.weight  # type: ignore[assignment]
        rows = weight.shape[_dim(layer)]
        u = torch.nn.functional.normalize(torch.randn([rows], dtype=weight.dtype, device=weight.device), dim=0)
        if self.layout == "biggan":
            layer.register_buffer("u0", u[None])
            layer.register_buffer("sv0", torch.ones([1], dtype=weight.dtype, device=weight.device))
            return
        del layer.weight
        layer.register_parameter("weight_orig", weight)
        v = torch.randn([weight.numel() // rows], dtype=weight.dtype, device=weight.device)
        layer.register_buffer("weight_u", u)
        layer.register_buffer("weight_v", torch.nn.functional.normalize(v, dim=0))

    def normalised_weights(self) -> dict[str, torch.Tensor]:
        """The weight of each layer, by its name in the network, "<layer>.weight"; renews u in training."""
        layers = [self.network.get_submodule(name) for name in self.names]
        weight, u = LAYOUTS[self.layout]
        biggan = self.layout == "biggan"
        normalised = spectral_norm_batched(
            [getattr(layer, weight) for layer in layers],
            [getattr(layer, u) for layer in layers],
            vs=None if biggan else [layer.weight_v for layer in layers],  # type: ignore[misc]
            sigmas=[layer.sv0 for layer in layers] if biggan else None,  # type: ignore[misc]
            eps=self.eps,
            num_iters=self.num_iters,
            training=self.training,
            dim=[_dim(layer) for layer in layers],
        )
        return {_join(name, "weight"): value for name, value in zip(self.names, normalised, strict=True)}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the network on its normalised weights."""
        return torch.func.functional_call(self.network, self.normalised_weights(), args, kwargs)

    def extra_repr(self) -> str:
        return f"layout='{self.layout}', eps={self.eps}, num_iters={self.num_iters}, {len(self.names)} layers"


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
