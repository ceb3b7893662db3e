"""Layers as rosinality's model.py has them, which takes the ops by name."""

import torch
from op import FusedLeakyReLU, conv2d_gradfix, fused_leaky_relu, upfirdn2d


class Blur(torch.nn.Module):
    def __init__(self, up):
        super().__init__()
        self.up = up
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("kernel", torch.outer(taps, taps) / 64 * up**2)

    def forward(self, x):
        return upfirdn2d(x, self.kernel, up=self.up, down=1, pad=(2, 1))


class Layer(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.blur = Blur(2)
        self.weight = torch.nn.Parameter(torch.randn([channels, channels, 3, 3]))
        self.activate = FusedLeakyReLU(channels)
        self.shift = torch.nn.Parameter(torch.randn([channels]))

    def forward(self, x):
        x = conv2d_gradfix.conv2d(input=self.blur(x), weight=self.weight, padding=1)
        return fused_leaky_relu(self.activate(x), self.shift)
