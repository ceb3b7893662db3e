"""Modules: they own the parameters and call the ops."""

from gankern.nn.conv import EqualizedConv2d
from gankern.nn.linear import EqualizedLinear
from gankern.nn.minibatch_stddev import MinibatchStddev
from gankern.nn.spectral_norm import SpectralNorm

__all__ = ["EqualizedConv2d", "EqualizedLinear", "MinibatchStddev", "SpectralNorm"]
