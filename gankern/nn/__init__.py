"""Modules: they own the parameters and call the ops."""

from gankern.nn.adain import AdaIN
from gankern.nn.conditional_batch_norm import ConditionalBatchNorm2d
from gankern.nn.conv import EqualizedConv2d
from gankern.nn.linear import EqualizedLinear
from gankern.nn.minibatch_stddev import MinibatchStddev
from gankern.nn.modulated_conv import ModulatedConv2d, StyledConv
from gankern.nn.noise_injection import NoiseInjection
from gankern.nn.pixel_norm import PixelNorm
from gankern.nn.self_attention2d import SelfAttention2d
from gankern.nn.spectral_norm import SpectralNorm

__all__ = [
    "AdaIN",
    "ConditionalBatchNorm2d",
    "EqualizedConv2d",
    "EqualizedLinear",
    "MinibatchStddev",
    "ModulatedConv2d",
    "NoiseInjection",
    "PixelNorm",
    "SelfAttention2d",
    "SpectralNorm",
    "StyledConv",
]
