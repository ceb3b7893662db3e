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
    def __init__(self, z_dim=6, c_dim=0, w_dim=6, img_resolution=8, img_channels=6, **kwargs):
        super().__init__()
        self.z_dim, self.img_channels = z_dim, img_channels
        self.const = torch.nn.Parameter(torch.randn([z_dim, 4, 4]))
        self.b4 = Layer(z_dim)
        self.b8 = Layer(z_dim, up=2)

    def forward(self, z, c=None, noise_mode="const"):
        x = self.const[None].expand(z.shape[0], -1, -1, -1)
        x = self.b4(x, z)
        y = self.b8(x, z)
        y = upfirdn2d.upsample2d(x, self.b8.resample_filter) + y
        return y[:, : self.img_channels]


@persistence.persistent_class
class Discriminator(torch.nn.Module):
    def __init__(self, c_dim=0, img_resolution=8, img_channels=6, **kwargs):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn([6, img_channels, 3, 3]))
        self.bias = torch.nn.Parameter(torch.randn([6]))
        self.register_buffer("resample_filter", upfirdn2d.setup_filter([1, 3, 3, 1]))

    def forward(self, img, c=None):
        w = self.weight.to(img.dtype)
        x = conv2d_resample.conv2d_resample(x=img, w=w, f=self.resample_filter, down=2, padding=1)
        x = bias_act.bias_act(x, self.bias.to(x.dtype), act="lrelu")
        return x.square().mean([1, 2, 3])
