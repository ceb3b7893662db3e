"""Modules: they own the parameters and call the ops."""

from gankern.nn.conditional_batch_norm import ConditionalBatchNorm2d
from gankern.nn.conv import EqualizedConv2d
from gankern.nn.linear import EqualizedLinear
from gankern.nn.minibatch_stddev import MinibatchStddev
from gankern.nn.self_attention2d import SelfAttention2d

__all__ = ["ConditionalBatchNorm2d", "EqualizedConv2d", "EqualizedLinear", "MinibatchStddev", "SelfAttention2d"]
