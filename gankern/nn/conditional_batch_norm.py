"""BatchNorm2d, ConditionalBatchNorm2d, and what concerns all of them in a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist

from gankern.ops.conditional_batch_norm import conditional_batch_norm


class _BatchNorm2d(torch.nn.Module):
    """The statistics; a gain and a bias come from elsewhere."""

    stored_mean: torch.Tensor
    stored_var: torch.Tensor

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        act: str | None,
        up: int,
        process_group: dist.ProcessGroup | None,
    ) -> None:
        super().__init__()
        self.eps, self.momentum, self.act, self.up = eps, momentum, act, up
        self.process_group = process_group
        self.register_buffer("stored_mean", torch.zeros([num_features]))
        self.register_buffer("stored_var", torch.ones([num_features]))
        self.standing = False
        self.num_batches_tracked = 0  # since the last reset; no part of the state dict

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "process_group": None}  # it belongs to this process, and cannot be copied

    def reset_standing_statistics(self) -> None:
        """Forgets the statistics; from here on they are the average over all batches seen in training mode."""
        self.standing = True
        self.num_batches_tracked = 0
        self.stored_mean.zero_()
        self.stored_var.fill_(1)

    def _normalise(self, x: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        momentum = self.momentum
        if self.training:
            self.num_batches_tracked += 1
            if self.standing or momentum is None:
                momentum = 1 / self.num_batches_tracked
        return conditional_batch_norm(
            x,
            gain,
            bias,
            self.stored_mean,
            self.stored_var,
            self.training,
            0.0 if momentum is None else momentum,
            self.eps,
            act=self.act,
            up=self.up,
            group=self.process_group,
        )

    def extra_repr(self) -> str:
        return f"num_features={len(self.stored_mean)}, eps={self.eps}, act={self.act}, up={self.up}"


class BatchNorm2d(_BatchNorm2d):
    """Batch normalisation with a gain and a bias per channel, an activation and upsampling.

    In training it normalises with the batch and keeps running statistics; in evaluation it uses those. Running
    statistics of a G whose weights moved on, or whose batches were small, are better replaced by standing ones: see
    `standing_statistics`.

    Args:
        num_features: Channels of x.
        eps: Added to the variance.
        momentum: Weight of a batch in the running statistics; None averages over all batches since the last reset.
        act, up: Of `gankern.conditional_batch_norm`.
        process_group: Processes whose batches are one batch in training; None for this process alone. A copy of the
            module has none.

    Source: Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
        Shift", 2015; state dict as in BigGAN-PyTorch: gain, bias, stored_mean, stored_var.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        act: str | None = None,
        up: int = 1,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, act, up, process_group)
        self.gain = torch.nn.Parameter(torch.ones([num_features]))
        self.bias = torch.nn.Parameter(torch.zeros([num_features]))

    def forward(self, x: torch.Tensor, s: torch.Tensor | None = None) -> torch.Tensor:
        """[N, C, H, W] -> [N, C, up * H, up * W]; a condition s is not looked at."""
        return self._normalise(x, self.gain, self.bias)


class ConditionalBatchNorm2d(_BatchNorm2d):
    """Batch normalisation whose gain, 1 + W_g s, and bias, W_b s, follow from a condition s of every sample.

    Args:
        num_features, eps, momentum, act, up, process_group: As in `BatchNorm2d`.
        cond_features: Length of s: class embedding and chunk of z side by side, for instance.
        linear: What makes `gain` and `bias`, called as torch.nn.Linear; one with spectral norm in BigGAN.

    Source: Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis", 2019, appendices B and
        C.1; state dict as in the authors' PyTorch code: gain.weight, bias.weight, stored_mean, stored_var.
    """

    def __init__(
        self,
        num_features: int,
        cond_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        act: str | None = None,
        up: int = 1,
        linear: Callable[..., torch.nn.Module] = torch.nn.Linear,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, act, up, process_group)
        self.gain = linear(cond_features, num_features, bias=False)
        self.bias = linear(cond_features, num_features, bias=False)

    def forward(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] and [N, cond_features] -> [N, C, up * H, up * W]."""
        return self._normalise(x, 1 + self.gain(s), self.bias(s))


def synchronise_batch_norm(network: torch.nn.Module, process_group: dist.ProcessGroup | None) -> None:
    """Makes the batches of all processes one batch to every batch normalisation of a network, in training.

    Args:
        network: Changed in place; its copies are not synchronised.
        process_group: Processes that run the network together, e.g. `dist.group.WORLD`; None for this one alone.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm2d):
            module.process_group = process_group


@torch.no_grad()
def standing_statistics(network: torch.nn.Module, batches: Iterable[tuple[Any, ...]]) -> None:
    """Replaces the running statistics of a network by their average over some batches.

    Only the batch normalisations are in training mode meanwhile: the vectors of a spectral norm stay.

    Args:
        network: Changed in place; called as `network(*batch)`.
        batches: Its inputs, e.g. 16 pairs (z, c), of the batch size and the distribution that samples come from.

    Source: Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis", 2019, appendix C
        ("standing statistics").
    """
    modules = [m for m in network.modules() if isinstance(m, _BatchNorm2d)]
    modes = [(m, m.training) for m in network.modules()]
    network.eval()
    for m in modules:
        m.train()
        m.reset_standing_statistics()
    for batch in batches:
        network(*batch)
    for module, training in modes:
        module.training = training
    for m in modules:
        m.standing = False
