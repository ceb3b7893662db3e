"""Modules: they own the parameters and call the ops."""

from gankern.nn.adain import AdaIN
from gankern.nn.augment_pipe import AUGPIPES, AugmentPipe
from gankern.nn.conditional_batch_norm import (
    BatchNorm2d,
    ConditionalBatchNorm2d,
    standing_statistics,
    synchronise_batch_norm,
)
from gankern.nn.conv import Conv2d, EqualizedConv2d
from gankern.nn.diff_augment import DiffAugment
from gankern.nn.linear import EqualizedLinear
from gankern.nn.minibatch_stddev import MinibatchStddev, synchronise_minibatch_stddev
from gankern.nn.modulated_conv import ModulatedConv2d, StyledConv
from gankern.nn.noise_injection import NoiseInjection
from gankern.nn.pixel_norm import PixelNorm
from gankern.nn.self_attention2d import SelfAttention2d
from gankern.nn.spectral_norm import SpectralNorm, attach_spectral_norm, shared_spectral_norm

__all__ = [
    "AUGPIPES",
    "AdaIN",
    "AugmentPipe",
    "BatchNorm2d",
    "ConditionalBatchNorm2d",
    "Conv2d",
    "DiffAugment",
    "EqualizedConv2d",
    "EqualizedLinear",
    "MinibatchStddev",
    "ModulatedConv2d",
    "NoiseInjection",
    "PixelNorm",
    "SelfAttention2d",
    "SpectralNorm",
    "StyledConv",
    "attach_spectral_norm",
    "shared_spectral_norm",
    "standing_statistics",
    "synchronise_batch_norm",
    "synchronise_minibatch_stddev",
]
