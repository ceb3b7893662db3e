"""gankern: fused, twice differentiable kernels for GANs, on CUDA and on the CPU."""

from gankern import dispatch as _dispatch
from gankern.dispatch import explain, use_backend
from gankern.dropin import patch, patched, unpatch
from gankern.library import inputs_only
from gankern.ops.adain import adain
from gankern.ops.attention import attention, self_attention2d
from gankern.ops.bias_act import bias_act
from gankern.ops.conditional_batch_norm import conditional_batch_norm
from gankern.ops.conv2d import conv2d, conv_transpose2d, no_weight_gradients
from gankern.ops.conv2d_resample import conv2d_resample
from gankern.ops.ema_update import ema_update
from gankern.ops.fade import fade, fade_detail
from gankern.ops.filtered_lrelu import filtered_lrelu
from gankern.ops.gradient_penalty import path_length_penalty, r1_penalty, r2_penalty, wgan_gp_penalty
from gankern.ops.grid_sample import affine_grid, grid_sample
from gankern.ops.minibatch_stddev import minibatch_stddev
from gankern.ops.modulated_conv2d import modulated_conv2d
from gankern.ops.noise_injection import noise_injection
from gankern.ops.pixel_norm import normalize_2nd_moment, pixel_norm
from gankern.ops.sanitize_gradients import sanitize_gradients
from gankern.ops.spectral_norm_batched import spectral_norm_batched
from gankern.ops.squared_norms import squared_norms
from gankern.ops.style_epilogue import style_epilogue
from gankern.ops.styled_bias_act import styled_bias_act
from gankern.ops.upfirdn2d import downsample2d, filter2d, setup_filter, upfirdn2d, upsample2d
from gankern.ops.upsample_add import upsample_add
from gankern.ops.winograd import winograd
from gankern.ops.winograd_strided import winograd_strided

__version__ = "0.1.0"
__all__ = [
    "adain",
    "affine_grid",
    "attention",
    "bias_act",
    "conditional_batch_norm",
    "conv2d",
    "conv2d_resample",
    "conv_transpose2d",
    "downsample2d",
    "ema_update",
    "explain",
    "fade",
    "fade_detail",
    "filter2d",
    "filtered_lrelu",
    "grid_sample",
    "inputs_only",
    "minibatch_stddev",
    "modulated_conv2d",
    "no_weight_gradients",
    "noise_injection",
    "normalize_2nd_moment",
    "patch",
    "patched",
    "path_length_penalty",
    "pixel_norm",
    "r1_penalty",
    "r2_penalty",
    "sanitize_gradients",
    "self_attention2d",
    "setup_filter",
    "spectral_norm_batched",
    "squared_norms",
    "style_epilogue",
    "styled_bias_act",
    "unpatch",
    "upfirdn2d",
    "upsample2d",
    "upsample_add",
    "use_backend",
    "wgan_gp_penalty",
    "winograd",
    "winograd_strided",
]

_dispatch._find_backends()
_dispatch._force_from_environment()
