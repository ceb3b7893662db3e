"""ModulatedConv2d and StyledConv."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from gankern.nn.linear import EqualizedLinear
from gankern.ops.bias_act import activation_funcs
from gankern.ops.modulated_conv2d import modulated_conv2d
from gankern.ops.upfirdn2d import setup_filter


class ModulatedConv2d(torch.nn.Module):
    """Convolution whose weights are scaled per sample by styles = affine(w), see `gankern.modulated_conv2d`.

    Args:
        in_channels, out_channels, kernel_size: As in `torch.nn.Conv2d`; the kernel size is odd, the size is kept.
        w_dim: Dimension of w.
        demodulate: Whether each output channel's weights have unit norm. If not, the styles carry the equalised
            learning rate, 1 / sqrt(I * k^2).
        up: Integer upsampling factor; the weights of an up-convolution are stored as a true convolution's.
        resample_filter: Taps of the FIR filter for `up`, a buffer; None for none.

    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, section 2.2.
    """

    resample_filter: torch.Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        w_dim: int,
        demodulate: bool = True,
        up: int = 1,
        resample_filter: Sequence[float] | None = (1, 3, 3, 1),
    ) -> None:
        super().__init__()
        self.demodulate, self.up, self.padding = demodulate, up, kernel_size // 2
        self.style_gain = 1 if demodulate else 1 / math.sqrt(in_channels * kernel_size**2)
        f = None if resample_filter is None else setup_filter(resample_filter, torch.get_default_device())
        self.register_buffer("resample_filter", f)
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1)
        self.weight = torch.nn.Parameter(torch.randn([out_channels, in_channels, kernel_size, kernel_size]))

    def forward(self, x: torch.Tensor, w: torch.Tensor, **tail: Any) -> torch.Tensor:
        """x [N, I, H, W] and w [N, w_dim] -> [N, O, H * up, W * up].

        Args:
            x, w: The image and its latents.
            tail: noise, noise_strength, bias, act, alpha, gain, clamp and fused_modconv of `gankern.modulated_conv2d`.
        """
        styles = self.affine(w)  # [N, I]
        styles = styles if self.style_gain == 1 else styles * self.style_gain
        f = None if self.resample_filter is None else self.resample_filter.float()  # .half() turns buffers along
        resampling: dict[str, Any] = {"up": self.up, "padding": self.padding, "resample_filter": f}
        resampling |= {"demodulate": self.demodulate, "flip_weight": self.up == 1}
        return modulated_conv2d(x, self.weight, styles, **resampling, **tail)

    def extra_repr(self) -> str:
        o, i, k, _ = self.weight.shape
        return f"in_channels={i}, out_channels={o}, kernel_size={k}, up={self.up}, demodulate={self.demodulate}"


class StyledConv(ModulatedConv2d):
    """A layer of StyleGAN2's generator: modulated 3x3 convolution, noise, bias, activation, clamp.

    Args:
        in_channels, out_channels, w_dim, up, resample_filter: As in `ModulatedConv2d`.
        use_noise: Whether the layer adds noise, of a learned strength that starts at 0.
        activation: Of `gankern.bias_act`, with its default gain.
        conv_clamp: Largest absolute value of the result, or None.

    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, figure 2d.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        up: int = 1,
        use_noise: bool = True,
        activation: str = "lrelu",
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, 3, w_dim, up=up, resample_filter=resample_filter)
        self.use_noise, self.activation, self.conv_clamp = use_noise, activation, conv_clamp
        self.act_gain = activation_funcs[activation].def_gain
        if use_noise:
            self.noise_strength = torch.nn.Parameter(torch.zeros([]))
        self.bias = torch.nn.Parameter(torch.zeros([out_channels]))

    def forward(  # type: ignore[override]
        self,
        x: torch.Tensor,
        w: torch.Tensor,
        noise: torch.Tensor | None = None,
        gain: float = 1,
        fused_modconv: bool | None = None,
    ) -> torch.Tensor:
        """x [N, I, H, W], w [N, w_dim] and noise -> [N, O, H * up, W * up], scaled (and clamped) by a further `gain`.

        Args:
            x, w: The image and its latents.
            noise: [H * up, W * up] or [N, 1, H * up, W * up]; None for none.
            gain: Of the result.
            fused_modconv: See `gankern.modulated_conv2d`.
        """
        return super().forward(
            x,
            w,
            noise=noise,
            noise_strength=None if noise is None else self.noise_strength,
            bias=self.bias,
            act=self.activation,
            gain=self.act_gain * gain,
            clamp=None if self.conv_clamp is None else self.conv_clamp * gain,
            fused_modconv=fused_modconv,
        )
