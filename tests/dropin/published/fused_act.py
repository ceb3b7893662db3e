"""rosinality's activation, in plain PyTorch."""

import torch
import torch.nn.functional as F

CALLS = []


class FusedLeakyReLU(torch.nn.Module):
    def __init__(self, channel, bias=True, negative_slope=0.2, scale=2**0.5):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(channel)) if bias else None
        self.negative_slope, self.scale = negative_slope, scale

    def forward(self, input):
        return fused_leaky_relu(input, self.bias, self.negative_slope, self.scale)


def fused_leaky_relu(input, bias=None, negative_slope=0.2, scale=2**0.5):
    CALLS.append("fused_leaky_relu")
    if bias is not None:
        input = input + bias.reshape([1, -1] + [1] * (input.ndim - 2))
    return F.leaky_relu(input, negative_slope) * scale
