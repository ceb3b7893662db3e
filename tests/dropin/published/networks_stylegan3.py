"""The layer of StyleGAN3, with its own form of modulated_conv2d."""

import torch
import training.calls
from torch_utils import misc
from torch_utils.ops import conv2d_gradfix, filtered_lrelu


@misc.profiled_function
def modulated_conv2d(x, w, s, demodulate=True, padding=0, input_gain=None):
    training.calls.modulated += 1
    n, i = s.shape
    if demodulate:
        w = w / w.square().mean([1, 2, 3], keepdim=True).sqrt()
        s = s / s.square().mean().sqrt()
    w = w[None] * s[:, None, :, None, None]
    if demodulate:
        w = w / (w.square().sum([2, 3, 4], keepdim=True) + 1e-8).sqrt()
    if input_gain is not None:
        w = w * input_gain.expand(n, i)[:, None, :, None, None]
    x = x.reshape(1, n * i, *x.shape[2:])
    w = w.reshape(-1, i, *w.shape[3:])
    x = conv2d_gradfix.conv2d(input=x, weight=w.to(x.dtype), padding=padding, groups=n)
    return x.reshape(n, -1, *x.shape[2:])


def layer(x, w, s, f, b):
    x = modulated_conv2d(x=x, w=w, s=s, padding=2, input_gain=torch.tensor(0.7, dtype=x.dtype))
    return filtered_lrelu.filtered_lrelu(
        x=x, fu=f, fd=f, b=b, up=2, down=2, padding=[3, 4, 3, 4], gain=1.5, slope=0.2, clamp=256
    )
