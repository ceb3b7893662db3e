"""Modules: they own the parameters and call the ops."""

from gankern.nn.adain import AdaIN
from gankern.nn.conv import EqualizedConv2d
from gankern.nn.linear import EqualizedLinear
from gankern.nn.minibatch_stddev import MinibatchStddev
from gankern.nn.pixel_norm import PixelNorm

__all__ = ["AdaIN", "EqualizedConv2d", "EqualizedLinear", "MinibatchStddev", "PixelNorm"]
