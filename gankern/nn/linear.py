"""EqualizedLinear."""

from __future__ import annotations

import math

import torch

from gankern.ops.bias_act import activation_funcs, bias_act


class EqualizedLinear(torch.nn.Module):
    """Linear layer with equalised learning rate: y = act(x @ (weight * k)^T + bias * lr_multiplier).

    k = weight_gain * lr_multiplier / sqrt(in_features), and the weights are stored as N(0, 1 / lr_multiplier^2), so
    that Adam's step is the same share of every layer's weights, times `lr_multiplier`.

    Args:
        in_features, out_features: As in `torch.nn.Linear`.
        bias: Whether there is a bias.
        activation: Of `gankern.bias_act`.
        lr_multiplier: Learning rate relative to the optimiser's.
        bias_init: What the bias is stored as at the start.
        weight_gain: Of the weights; ProGAN and StyleGAN have sqrt(2) there before lrelu, and 1 as `act_gain`.
        act_gain: Of the activation's result; None for the activation's default, as in StyleGAN2.

    Source: Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018,
        section 4.1; `lr_multiplier`: Karras et al., "A Style-Based Generator Architecture for GANs", 2019, appendix C.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activation: str = "linear",
        lr_multiplier: float = 1,
        bias_init: float = 0,
        weight_gain: float = 1,
        act_gain: float | None = None,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weight = torch.nn.Parameter(torch.randn([out_features, in_features]) / lr_multiplier)
        self.bias = torch.nn.Parameter(torch.full([out_features], float(bias_init))) if bias else None
        self.weight_gain = weight_gain * lr_multiplier / math.sqrt(in_features)
        self.act_gain = activation_funcs[activation].def_gain if act_gain is None else act_gain
        self.bias_gain = lr_multiplier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, in_features] -> [N, out_features]."""
        weight = self.weight.to(x.dtype).t()
        if self.bias is None:
            x = (x * self.weight_gain) @ weight
        else:
            # The gains as factors of the product: the weights are not copied to be scaled.
            bias = self.bias.to(x.dtype)
            x = torch.addmm(bias, x, weight, beta=self.bias_gain, alpha=self.weight_gain)
        return bias_act(x, act=self.activation, gain=self.act_gain)

    def extra_repr(self) -> str:
        out_features, in_features = self.weight.shape
        return f"in_features={in_features}, out_features={out_features}, activation={self.activation}"
