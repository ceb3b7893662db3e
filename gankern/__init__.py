"""gankern: fused, twice differentiable kernels for GANs, on CUDA and on the CPU."""

from gankern import dispatch as _dispatch
from gankern.dispatch import explain, use_backend
from gankern.library import inputs_only
from gankern.ops.bias_act import bias_act
from gankern.ops.conv2d_resample import conv2d_resample
from gankern.ops.minibatch_stddev import minibatch_stddev
from gankern.ops.modulated_conv2d import modulated_conv2d
from gankern.ops.normalize_2nd_moment import normalize_2nd_moment
from gankern.ops.upfirdn2d import downsample2d, filter2d, setup_filter, upfirdn2d, upsample2d
from gankern.ops.winograd import winograd

__version__ = "0.1.0"
__all__ = [
    "bias_act",
    "conv2d_resample",
    "downsample2d",
    "explain",
    "filter2d",
    "inputs_only",
    "minibatch_stddev",
    "modulated_conv2d",
    "normalize_2nd_moment",
    "setup_filter",
    "upfirdn2d",
    "upsample2d",
    "use_backend",
    "winograd",
]

_dispatch._find_backends()
_dispatch._force_from_environment()
