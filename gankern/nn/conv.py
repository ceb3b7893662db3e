"""EqualizedConv2d, and Conv2d with gankern's routines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from gankern.ops.bias_act import activation_funcs, bias_act
from gankern.ops.conv2d import conv2d
from gankern.ops.conv2d_resample import conv2d_resample
from gankern.ops.upfirdn2d import setup_filter


class EqualizedConv2d(torch.nn.Module):
    """Convolution with equalised learning rate, filtered resampling, bias and activation.

    y = bias_act(conv2d_resample(x, weight * weight_gain / sqrt(I * k^2)), bias); only `up` and `down` change the size.
    `layer.to(memory_format=torch.channels_last)` makes the result channels_last, whatever x is.

    Args:
        in_channels, out_channels, kernel_size: As in `torch.nn.Conv2d`; the kernel size is odd.
        bias: Whether there is a bias.
        activation: Of `gankern.bias_act`.
        up, down: Integer resampling factors.
        resample_filter: Taps of the FIR filter for `up` and `down`.
        conv_clamp: Largest absolute value of the result, or None.
        trainable: False makes weight and bias buffers, under the same names.
        weight_gain: Of the weights; ProGAN and StyleGAN have sqrt(2) there before lrelu, and 1 as `act_gain`.
        act_gain: Of the activation's result; None for the activation's default, as in StyleGAN2.
        flip_weight: As in `gankern.conv2d_resample`; None for True but with `up`, as StyleGAN2 stores its weights.

    Source: Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018,
        section 4.1; Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, appendix B.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    resample_filter: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        bias: bool = True,
        activation: str = "linear",
        up: int = 1,
        down: int = 1,
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        conv_clamp: float | None = None,
        trainable: bool = True,
        weight_gain: float = 1,
        act_gain: float | None = None,
        flip_weight: bool | None = None,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.up = up
        self.down = down
        self.conv_clamp = conv_clamp
        self.padding = kernel_size // 2
        self.weight_gain = weight_gain / math.sqrt(in_channels * kernel_size**2)
        self.act_gain = activation_funcs[activation].def_gain if act_gain is None else act_gain
        self.flip_weight = up == 1 if flip_weight is None else flip_weight
        self.register_buffer("resample_filter", setup_filter(resample_filter, torch.get_default_device()))
        weight = torch.randn([out_channels, in_channels, kernel_size, kernel_size])
        self._register("weight", weight, trainable)
        self._register("bias", torch.zeros([out_channels]) if bias else None, trainable)

    def _register(self, name: str, value: torch.Tensor | None, trainable: bool) -> None:
        if trainable:
            self.register_parameter(name, None if value is None else torch.nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    def forward(self, x: torch.Tensor, gain: float = 1) -> torch.Tensor:
        """[N, I, H, W] -> [N, O, H * up / down, W * up / down], scaled (and clamped) by a further `gain`."""
        is_linear = self.bias is None and self.activation == "linear" and self.conv_clamp is None
        weight_gain = self.weight_gain * self.act_gain * gain if is_linear else self.weight_gain
        weight = self.weight * weight_gain  # [O, I, k, k]
        tail: dict[str, Any] = {"act": self.activation, "gain": self.act_gain * gain}
        tail["clamp"] = None if self.conv_clamp is None else self.conv_clamp * gain
        if self.up == self.down == 1 and self.flip_weight:
            return conv2d(x, weight, self.bias, padding=self.padding, **({} if is_linear else tail))
        f = self.resample_filter.float()  # module.double() and .half() turn it along with the parameters
        weight = weight.to(x.dtype)  # [O, I, k, k]
        x = conv2d_resample(x, weight, f, self.up, self.down, self.padding, flip_weight=self.flip_weight)
        return x if is_linear else bias_act(x, self.bias, **tail)

    def extra_repr(self) -> str:
        o, i, k, _ = self.weight.shape
        resampling = f"up={self.up}, down={self.down}"
        return f"in_channels={i}, out_channels={o}, kernel_size={k}, {resampling}, activation={self.activation}"


class Conv2d(torch.nn.Conv2d):
    """`torch.nn.Conv2d` by `gankern.conv2d`, in the dtype of its input, with an activation: y = act(conv(x) + bias).

    Args:
        args, kwargs: As in `torch.nn.Conv2d`, padded with zeros.
        act: Of `gankern.bias_act`, with gain 1.
    """

    def __init__(self, *args: Any, act: str = "linear", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.act = act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, I, H, W] -> [N, O, ...]."""
        sizes: Any = (self.stride, self.padding, self.dilation, self.groups)
        gain = None if self.act == "linear" else 1
        return conv2d(x, self.weight, self.bias, *sizes, act=self.act, gain=gain)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, act={self.act}"
