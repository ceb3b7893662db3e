"""Upsampling, convolution, downsampling, one after the other."""

from .. import misc
from . import conv2d_gradfix, upfirdn2d

CALLS = []


@misc.profiled_function
def conv2d_resample(x, w, f=None, up=1, down=1, padding=0, groups=1, flip_weight=True, flip_filter=False):
    CALLS.append("conv2d_resample")
    fw, fh = upfirdn2d.taps(f)
    p = upfirdn2d.four(padding)
    if up > 1:
        p = [p[0] + (fw + up - 1) // 2, p[1] + (fw - up) // 2, p[2] + (fh + up - 1) // 2, p[3] + (fh - up) // 2]
    if down > 1:
        extra = [(fw - down + 1) // 2, (fw - down) // 2, (fh - down + 1) // 2, (fh - down) // 2]
        p = [a + b for a, b in zip(p, extra, strict=True)]
    x = upfirdn2d.upfirdn2d(x, f if up > 1 else None, up=up, padding=p, gain=up**2, flip_filter=flip_filter)
    x = conv2d_gradfix.conv2d(x, w if flip_weight else w.flip([2, 3]), groups=groups)
    return upfirdn2d.upfirdn2d(x, f if down > 1 else None, down=down, flip_filter=flip_filter)
