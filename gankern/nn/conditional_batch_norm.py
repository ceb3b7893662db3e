"""ConditionalBatchNorm2d."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist

from gankern.ops.conditional_batch_norm import conditional_batch_norm


class ConditionalBatchNorm2d(torch.nn.Module):
    """Batch normalisation whose gain, 1 + W_g s, and bias, W_b s, follow from a condition s of every sample.

    In training it normalises with the batch and keeps running statistics; in evaluation it uses those. Running
    statistics of a G whose weights moved on, or whose batches were small, are better replaced by standing ones: call
    `reset_standing_statistics()`, run some batches in training mode without gradients, and go to evaluation.

    Args:
        num_features: Channels of x.
        cond_features: Length of s: class embedding and chunk of z side by side, for instance.
        eps: Added to the variance.
        momentum: Weight of a batch in the running statistics; None averages over all batches since the last reset.
        act, up: Of `gankern.conditional_batch_norm`.
        linear: What makes `gain` and `bias`, called as torch.nn.Linear; one with spectral norm in BigGAN.
        process_group: Processes whose batches are one batch in training; None for this process alone.

    Source: Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis", 2019, appendices B and
        C.1; state dict as in the authors' PyTorch code: gain.weight, bias.weight, stored_mean, stored_var.
    """

    stored_mean: torch.Tensor
    stored_var: torch.Tensor

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
        super().__init__()
        self.eps, self.momentum, self.act, self.up = eps, momentum, act, up
        self.process_group = process_group
        self.gain = linear(cond_features, num_features, bias=False)
        self.bias = linear(cond_features, num_features, bias=False)
        self.register_buffer("stored_mean", torch.zeros([num_features]))
        self.register_buffer("stored_var", torch.ones([num_features]))
        self.standing = False
        self.num_batches_tracked = 0  # since the last reset; no part of the state dict

    def reset_standing_statistics(self) -> None:
        """Forgets the statistics; from here on they are the average over all batches seen in training mode."""
        self.standing = True
        self.num_batches_tracked = 0
        self.stored_mean.zero_()
        self.stored_var.fill_(1)

    def forward(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] and [N, cond_features] -> [N, C, up * H, up * W]."""
        momentum = self.momentum
        if self.training:
            self.num_batches_tracked += 1
            if self.standing or momentum is None:
                momentum = 1 / self.num_batches_tracked
        return conditional_batch_norm(
            x,
            1 + self.gain(s),
            self.bias(s),
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
