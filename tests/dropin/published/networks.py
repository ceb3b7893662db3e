"""A small StyleGAN2 with the imports, decorators and calls of the published files of networks."""

import torch
import training.calls
from torch_utils import misc, persistence
from torch_utils.ops import bias_act, conv2d_resample, fma, upfirdn2d


@misc.profiled_function
def modulated_conv2d(
    x,
    weight,
    styles,
    noise=None,
    up=1,
    down=1,
    padding=0,
    resample_filter=None,
    demodulate=True,
    flip_weight=True,
    fused_modconv=True,
):
    training.calls.modulated += 1
    dcoefs = None
    if demodulate:
        w = weight[None] * styles[:, None, :, None, None]
        dcoefs = (w.square().sum(dim=[2, 3, 4]) + 1e-8).rsqrt()
    x = x * styles.to(x.dtype)[:, :, None, None]
    x = conv2d_resample.conv2d_resample(
        x=x,
        w=weight.to(x.dtype),
        f=resample_filter,
        up=up,
        down=down,
        padding=padding,
        flip_weight=flip_weight,
    )
    if demodulate and noise is not None:
        return fma.fma(x, dcoefs.to(x.dtype)[:, :, None, None], noise.to(x.dtype))
    if demodulate:
        x = x * dcoefs.to(x.dtype)[:, :, None, None]
    return x if noise is None else x + noise.to(x.dtype)


@persistence.persistent_class
class Layer(torch.nn.Module):
    def __init__(self, channels, up=1):
        super().__init__()
        self.up = up
        self.weight = torch.nn.Parameter(torch.randn([channels, channels, 3, 3]))
        self.bias = torch.nn.Parameter(torch.randn([channels]))
        self.affine = torch.nn.Linear(channels, channels)
        self.register_buffer("resample_filter", upfirdn2d.setup_filter([1, 3, 3, 1]))
        self.act_gain = bias_act.activation_funcs["lrelu"].def_gain

    def forward(self, x, w, gain=1):
        x = modulated_conv2d(
            x=x,
            weight=self.weight,
            styles=self.affine(w),
            noise=torch.linspace(-1, 1, x.shape[2] * self.up)[None, :].expand(x.shape[2] * self.up, -1),
            up=self.up,
            padding=1,
            resample_filter=self.resample_filter,
            flip_weight=(self.up == 1),
            fused_modconv=False,
        )
        return bias_act.bias_act(x, self.bias.to(x.dtype), act="lrelu", gain=self.act_gain * gain, clamp=256 * gain)


@persistence.persistent_class
class Generator(torch.nn.Module):
    def __init__(self, channels=6):
        super().__init__()
        self.z_dim = channels
        self.const = torch.nn.Parameter(torch.randn([channels, 4, 4]))
        self.b4 = Layer(channels)
        self.b8 = Layer(channels, up=2)

    def forward(self, w):
        x = self.const[None].expand(w.shape[0], -1, -1, -1)
        x = self.b4(x, w)
        y = self.b8(x, w)
        return upfirdn2d.upsample2d(x, self.b8.resample_filter) + y


@persistence.persistent_class
class Discriminator(torch.nn.Module):
    def __init__(self, channels=6):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn([channels, channels, 3, 3]))
        self.bias = torch.nn.Parameter(torch.randn([channels]))
        self.register_buffer("resample_filter", upfirdn2d.setup_filter([1, 3, 3, 1]))

    def forward(self, x):
        w = self.weight.to(x.dtype)
        x = conv2d_resample.conv2d_resample(x=x, w=w, f=self.resample_filter, down=2, padding=1)
        x = bias_act.bias_act(x, self.bias.to(x.dtype), act="lrelu")
        return x.square().mean([1, 2, 3])
