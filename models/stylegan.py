"""StyleGAN (the first) and its discriminator, growing from 4x4 or any later resolution to the final one.

Karras, Laine, Aila: "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019, and where it
changes nothing, its predecessor: Karras, Aila, Laine, Lehtinen: "Progressive Growing of GANs for Improved Quality,
Stability, and Variation", 2018 ("ProGAN"). He's gain, sqrt(2), is in the weights, and leaky ReLU has none of its own.

All parameters exist from the start; `grow` says which blocks run. Names, with r = 4, 8, ..., img_resolution:
    G   mapping.{w_avg, fc0...fc7.{weight, bias}}, with labels mapping.embed.weight [z_dim, c_dim]
        synthesis.alpha, synthesis.b4.const [C, h, w]
        synthesis.b{r}.conv0.weight for r > 4, .conv1.weight, .torgb.{weight, bias}
        synthesis.b{r}.epilogue{0, 1}.{noise_strength [C], noise_const [h, w], bias [C], affine.{weight, bias}};
        affine makes [scale - 1, shift], and epilogue0 of b4 belongs to the constant
    D   alpha, b{r}.fromrgb.{weight, bias}, b{r}.{conv0, conv1}.{weight, bias} for r > 4
        b4.{conv, fc, out}.{weight, bias}
Beside the weight of every convolution there is its `resample_filter`, a constant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch

from gankern import downsample2d, fade, filter2d, normalize_2nd_moment, setup_filter, style_epilogue
from gankern.nn import EqualizedConv2d, EqualizedLinear, MinibatchStddev

from .progan import BOX, LRELU, GrowingNetwork, _checked, _is_lowp

NOISE_MODES = ("random", "const", "none")
VARIANTS = ("stylegan", "style-based-gan-pytorch")


class MappingNetwork(torch.nn.Module):
    """f: z, c -> ws, an MLP on the normalised latent, the label's vector appended to it (section 2, figure 1b).

    Args:
        z_dim, c_dim, w_dim: Dimensions of the latent, the label (0 for none) and the result.
        num_ws: How often w is repeated.
        num_layers: Linear layers.
        layer_features: Width of the layers between; default w_dim.
        lr_multiplier: Learning rate relative to that of the other networks.
        w_avg_beta: Decay of the running mean of w, towards which truncation pulls.
    """

    fc0: EqualizedLinear
    w_avg: torch.Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int,
        num_layers: int = 8,
        layer_features: int | None = None,
        lr_multiplier: float = 0.01,
        w_avg_beta: float = 0.995,
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.num_ws = z_dim, c_dim, w_dim, num_ws
        self.num_layers, self.w_avg_beta = num_layers, w_avg_beta
        if c_dim > 0:
            self.embed = torch.nn.Linear(c_dim, z_dim, bias=False)
            torch.nn.init.normal_(self.embed.weight)
        features = [2 * z_dim if c_dim > 0 else z_dim] + [layer_features or w_dim] * (num_layers - 1) + [w_dim]
        for i in range(num_layers):
            layer = EqualizedLinear(features[i], features[i + 1], lr_multiplier=lr_multiplier, **LRELU)
            setattr(self, f"fc{i}", layer)
        self.register_buffer("w_avg", torch.zeros([w_dim]))

    def forward(
        self,
        z: torch.Tensor,
        c: torch.Tensor | None = None,
        truncation_psi: float | Sequence[float] = 1,
        truncation_cutoff: int | None = None,
        update_emas: bool | None = None,
    ) -> torch.Tensor:
        """z [N, z_dim] and c [N, c_dim] -> ws [N, num_ws, w_dim].

        Args:
            z, c: Latents and labels; c None where c_dim is 0.
            truncation_psi: Interpolates from the mean w (0) to w (1); one number, or one for each of the num_ws.
            truncation_cutoff: How many of the ws are truncated, the first; None for all.
            update_emas: True updates the mean of w.
        """
        x = _checked("z", z, self.z_dim).to(self.fc0.weight.dtype)  # [N, z_dim]
        if self.c_dim > 0:
            c = _checked("c", c, self.c_dim).to(x.dtype)
            x = torch.cat([x, self.embed(c)], dim=1)  # [N, 2 * z_dim]
        x = normalize_2nd_moment(x)
        for i in range(self.num_layers):
            x = getattr(self, f"fc{i}")(x)  # [N, w_dim]
        if update_emas:
            self.w_avg.lerp_(x.detach().mean(dim=0), 1 - self.w_avg_beta)
        ws = x[:, None].repeat(1, self.num_ws, 1)  # [N, num_ws, w_dim]
        if isinstance(truncation_psi, int | float) and truncation_psi == 1:
            return ws
        psi = torch.tensor(self._psis(truncation_psi, truncation_cutoff), dtype=ws.dtype, device=ws.device)  # [num_ws]
        return self.w_avg.lerp(ws, psi[:, None])

    def _psis(self, psi: float | Sequence[float], cutoff: int | None) -> list[float]:
        """Appendix B: psi for every w, 1 from the cutoff on."""
        cutoff = self.num_ws if cutoff is None else cutoff
        psis = [psi] * self.num_ws if isinstance(psi, int | float) else list(psi)
        if len(psis) != self.num_ws:
            raise ValueError(f"truncation_psi must be one number or {self.num_ws}, got {len(psis)}")
        if not 0 <= cutoff <= self.num_ws:
            raise ValueError(f"truncation_cutoff must be from 0 to {self.num_ws}, got {cutoff}")
        return psis[:cutoff] + [1] * (self.num_ws - cutoff)


class Epilogue(torch.nn.Module):
    """What follows every convolution: noise, bias, leaky ReLU, instance norm, style (figure 1b, equation 1).

    Args:
        channels: Of x.
        w_dim: Dimension of w.
        size: (height, width) of x.
        bias: Whether there is a bias.
        eps: Of the instance norm.
    """

    noise_const: torch.Tensor

    def __init__(self, channels: int, w_dim: int, size: tuple[int, int], bias: bool = True, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps
        self.noise_strength = torch.nn.Parameter(torch.zeros([channels]))
        self.bias = torch.nn.Parameter(torch.zeros([channels])) if bias else None
        self.affine = EqualizedLinear(w_dim, 2 * channels)
        self.register_buffer("noise_const", torch.randn(size))

    def forward(self, x: torch.Tensor, w: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """x [N, C, H, W], w [N, w_dim] and what `noise` gave -> [N, C, H, W]."""
        scale, shift = self.affine(w).chunk(2, dim=1)  # [N, C]
        strength = None if noise is None else self.noise_strength
        return style_epilogue(x, noise, strength, self.bias, 1 + scale, shift, act="lrelu", eps=self.eps)

    def noise(self, n: int, noise_mode: str) -> torch.Tensor | None:
        """Noise for n images: [N, 1, H, W], [H, W] or None."""
        if noise_mode == "none":
            return None
        if noise_mode == "const":
            return self.noise_const  # [H, W]
        return torch.randn([n, 1, *self.noise_const.shape], device=self.noise_strength.device)  # [N, 1, H, W]


class SynthesisBlock(torch.nn.Module):
    """One resolution of the generator, two layers; the first block has a constant instead of an up-convolution.

    The up-convolution is nearest neighbour upsampling and a 3x3 kernel, then a blur. The form published as fused, one
    transposed convolution with a 4x4 kernel, is the same with the 3x3 kernel turned by 180 degrees; so only the stored
    kernels differ (`fused_scale`), and `gankern.conv2d_resample` computes either in the cheapest order. `variant` as in
    `SynthesisNetwork`.
    """

    blur_filter: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        size: tuple[int, int],
        img_channels: int,
        fused_scale: bool,
        blur_filter: Sequence[float],
        lowp_dtype: torch.dtype | None,
        variant: str,
    ) -> None:
        super().__init__()
        self.lowp_dtype = lowp_dtype
        self.is_first = in_channels == 0
        published = variant == "stylegan"
        self.shares_noise = not published
        eps = 1e-8 if published else 1e-5
        conv: dict[str, Any] = {"bias": False, "weight_gain": math.sqrt(2)}
        if self.is_first:
            self.const = torch.nn.Parameter(torch.ones([out_channels, *size]))
        else:
            conv0 = {**conv, "up": 2, "resample_filter": BOX, "flip_weight": not fused_scale, "bias": not published}
            self.conv0 = EqualizedConv2d(in_channels, out_channels, 3, **conv0)
            _register_filter(self, blur_filter)
        self.epilogue0 = Epilogue(out_channels, w_dim, size, bias=published, eps=eps)
        self.conv1 = EqualizedConv2d(out_channels, out_channels, 3, **conv)
        self.epilogue1 = Epilogue(out_channels, w_dim, size, eps=eps)
        self.torgb = EqualizedConv2d(out_channels, img_channels, 1)

    def forward(self, x: torch.Tensor | None, ws: torch.Tensor, noise_mode: str) -> torch.Tensor:
        """x [N, I, H / 2, W / 2] (None for the first block) and ws [N, 2, w_dim] -> [N, O, H, W]."""
        dtype = self.lowp_dtype or ws.dtype
        w0, w1 = ws.unbind(dim=1)  # [N, w_dim]
        if x is None:
            x = self.const.to(dtype).expand(ws.shape[0], -1, -1, -1)  # [N, O, H, W]
        else:
            x = self.conv0(x.to(dtype))  # [N, O, H, W]
            x = filter2d(x, self.blur_filter.float())  # [N, O, H, W]
        noise = self.epilogue0.noise(x.shape[0], noise_mode)
        x = self.epilogue0(x, w0, noise)  # [N, O, H, W]
        x = self.conv1(x)  # [N, O, H, W]
        noise = noise if self.shares_noise else self.epilogue1.noise(x.shape[0], noise_mode)
        return self.epilogue1(x, w1, noise)  # [N, O, H, W]


class SynthesisNetwork(GrowingNetwork):
    """g: ws -> image at the current resolution.

    Args:
        w_dim: Dimension of w.
        img_resolution, base_size: As in `gankern.models.progan.GrowingNetwork`.
        img_channels: Channels of the image.
        channel_base, channel_max: Channels of a layer: channel_base / resolution, at most channel_max.
        fused_scale: For which published form the kernels of the up-convolutions are stored: False for upsampling and
            convolution, True for one transposed convolution, 'auto' for the latter from resolution 128 on.
        blur_filter: Taps of the low-pass filter after upsampling.
        variant: 'stylegan', or 'style-based-gan-pytorch' for weights that were trained with that code, which differs
            from the paper's: the instance norm has eps 1e-5, the two layers of a resolution share their noise, the bias
            of an up-convolution, `conv0.bias`, is added before the blur, and the constant has none.
        num_fp16_res: How many of the highest resolutions up to img_resolution compute in `lowp_dtype`; never 4.
        lowp_dtype: torch.bfloat16 or torch.float16; parameters, styles, images and the rest stay in float32.
        channels_last: Memory format of weights, which the activations follow.
    """

    b4: SynthesisBlock

    def __init__(
        self,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        base_size: tuple[int, int] = (4, 4),
        channel_base: int = 16384,
        channel_max: int = 512,
        fused_scale: bool | Literal["auto"] = "auto",
        blur_filter: Sequence[float] = (1, 2, 1),
        variant: str = "stylegan",
        num_fp16_res: int = 0,
        lowp_dtype: torch.dtype = torch.bfloat16,
        channels_last: bool = False,
    ) -> None:
        super().__init__(img_resolution, base_size)
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
        if fused_scale not in (True, False, "auto"):
            raise ValueError(f"fused_scale must be True, False or 'auto', got {fused_scale!r}")
        self.w_dim, self.img_channels = w_dim, img_channels
        in_channels = 0  # the first block has a constant instead of an input
        for res in self.block_resolutions:
            out_channels = min(channel_base // res, channel_max)
            fused = res >= 128 if fused_scale == "auto" else bool(fused_scale)
            dtype = lowp_dtype if _is_lowp(res, img_resolution, num_fp16_res) else None
            widths, size = (in_channels, out_channels, w_dim), (base_size[0] * res // 4, base_size[1] * res // 4)
            block = SynthesisBlock(*widths, size, img_channels, fused, blur_filter, dtype, variant)
            setattr(self, f"b{res}", block)
            in_channels = out_channels
        self.num_ws = 2 * len(self.block_resolutions)
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, ws: torch.Tensor, noise_mode: str = "random") -> torch.Tensor:
        """ws [N, num_ws, w_dim] -> image [N, img_channels, h, w] of the current resolution, about -1 to 1.

        Args:
            ws: One w per layer; those of layers that do not run are not read.
            noise_mode: 'random' draws, 'const' takes the stored noise, 'none' adds none.
        """
        if noise_mode not in NOISE_MODES:
            raise ValueError(f"noise_mode must be one of {', '.join(NOISE_MODES)}, got {noise_mode!r}")
        ws = _checked("ws", ws, self.num_ws, self.w_dim).to(self.b4.const.dtype)
        x: Any = None
        old: Any = None
        for i, res in enumerate(self.block_resolutions):
            if res <= self.resolution:
                x, old = self.block(res)(x, ws[:, 2 * i : 2 * i + 2], noise_mode), x  # [N, C, h, w], and half the size
        img = self.block(self.resolution).torgb(x).to(ws.dtype)  # [N, img_channels, h, w]
        if self.fading:
            old = self.block(self.resolution // 2).torgb(old).to(ws.dtype)  # [N, img_channels, h / 2, w / 2]
            img = fade(img, old, self.alpha)  # [N, img_channels, h, w]
        return img


class Generator(torch.nn.Module):
    """G: z, c -> image at the current resolution; `synthesis_kwargs` as in `SynthesisNetwork`."""

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        mapping_kwargs: dict[str, Any] | None = None,
        **synthesis_kwargs: Any,
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.img_resolution, self.img_channels = img_resolution, img_channels
        self.synthesis = SynthesisNetwork(w_dim, img_resolution, img_channels, **synthesis_kwargs)
        self.num_ws, self.base_size = self.synthesis.num_ws, self.synthesis.base_size
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, self.num_ws, **(mapping_kwargs or {}))

    def grow(self, resolution: int, fading: bool) -> None:
        """See `gankern.models.progan.GrowingNetwork.grow`."""
        self.synthesis.grow(resolution, fading)

    @property
    def resolution(self) -> int:
        return self.synthesis.resolution

    @property
    def fading(self) -> bool:
        return self.synthesis.fading

    @property
    def alpha(self) -> torch.Tensor:
        return self.synthesis.alpha

    def forward(
        self,
        z: torch.Tensor,
        c: torch.Tensor | None = None,
        truncation_psi: float | Sequence[float] = 1,
        truncation_cutoff: int | None = None,
        update_emas: bool | None = None,
        noise_mode: str = "random",
    ) -> torch.Tensor:
        """z [N, z_dim] and c [N, c_dim] -> image; arguments as in `MappingNetwork` and `SynthesisNetwork`."""
        ws = self.mapping(z, c, truncation_psi, truncation_cutoff, update_emas)
        return self.synthesis(ws, noise_mode)


class DiscriminatorBlock(torch.nn.Module):
    """One resolution of the discriminator (ProGAN, table 2), with a blur before the downsampling convolution.

    That one, published as a 3x3 kernel and a mean of 2x2 pixels or as one strided 4x4 kernel, is the same either way,
    kernels included. `wide` as in `Discriminator`.
    """

    blur_filter: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        img_channels: int,
        blur_filter: Sequence[float],
        lowp_dtype: torch.dtype | None,
        wide: bool,
    ) -> None:
        super().__init__()
        self.lowp_dtype = lowp_dtype
        hidden = out_channels if wide else in_channels
        self.fromrgb = EqualizedConv2d(img_channels, in_channels, 1, **LRELU)
        self.conv0 = EqualizedConv2d(in_channels, hidden, 3, **LRELU)
        _register_filter(self, blur_filter)
        self.conv1 = EqualizedConv2d(hidden, out_channels, 3, down=2, resample_filter=BOX, **LRELU)

    def features(self, img: torch.Tensor) -> torch.Tensor:
        """Image [N, img_channels, H, W] -> x [N, I, H, W]."""
        return self.fromrgb(img.to(self.lowp_dtype or self.fromrgb.weight.dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [N, I, H, W] -> [N, O, H / 2, W / 2]."""
        x = self.conv0(x.to(self.lowp_dtype or self.conv0.weight.dtype))  # [N, I or O, H, W]
        x = filter2d(x, self.blur_filter.float())  # [N, I, H, W]
        return self.conv1(x)  # [N, O, H / 2, W / 2]


class DiscriminatorEpilogue(torch.nn.Module):
    """Features at resolution 4 -> scores, in the dtype of the parameters; with labels, the score of the label."""

    def __init__(
        self,
        channels: int,
        fc_channels: int,
        c_dim: int,
        img_channels: int,
        size: tuple[int, int],
        mbstd_group_size: int | None,
        mbstd_num_channels: int,
    ) -> None:
        super().__init__()
        self.c_dim = c_dim
        self.fromrgb = EqualizedConv2d(img_channels, channels, 1, **LRELU)
        self.mbstd = MinibatchStddev(mbstd_group_size, mbstd_num_channels) if mbstd_num_channels > 0 else None
        self.conv = EqualizedConv2d(channels + mbstd_num_channels, channels, 3, **LRELU)
        self.fc = EqualizedLinear(channels * math.prod(size), fc_channels, **LRELU)
        self.out = EqualizedLinear(fc_channels, max(c_dim, 1))

    def features(self, img: torch.Tensor) -> torch.Tensor:
        """Image [N, img_channels, H, W] -> x [N, C, H, W]."""
        return self.fromrgb(img.to(self.fromrgb.weight.dtype))

    def forward(self, x: torch.Tensor, c: torch.Tensor | None) -> torch.Tensor:
        """x [N, C, H, W] and c [N, c_dim] -> scores [N, 1]."""
        x = x.to(self.fc.weight.dtype)
        x = x if self.mbstd is None else self.mbstd(x)  # [N, C + mbstd_num_channels, H, W]
        x = self.conv(x)  # [N, C, H, W]
        x = self.fc(x.flatten(1))  # [N, fc_channels]
        x = self.out(x)  # [N, c_dim or 1]
        if self.c_dim > 0:
            x = (x * _checked("c", c, self.c_dim).to(x.dtype)).sum(dim=1, keepdim=True)  # [N, 1]
        return x


class Discriminator(GrowingNetwork):
    """D: image at the current resolution, c -> score; one output per label, and c selects.

    Args:
        c_dim: Dimension of the label; 0 for none.
        img_resolution, base_size: As in `gankern.models.progan.GrowingNetwork`.
        img_channels: Channels of the image.
        channel_base, channel_max, blur_filter, num_fp16_res, lowp_dtype, channels_last: As in `SynthesisNetwork`.
        mbstd_group_size, mbstd_num_channels: Of `gankern.minibatch_stddev`; 0 channels for none.
        wide: Whether a block is as wide between its convolutions as after them (style-based-gan-pytorch), or as before
            them.
    """

    def __init__(
        self,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        base_size: tuple[int, int] = (4, 4),
        channel_base: int = 16384,
        channel_max: int = 512,
        blur_filter: Sequence[float] = (1, 2, 1),
        num_fp16_res: int = 0,
        lowp_dtype: torch.dtype = torch.bfloat16,
        channels_last: bool = False,
        mbstd_group_size: int | None = 4,
        mbstd_num_channels: int = 1,
        wide: bool = False,
    ) -> None:
        super().__init__(img_resolution, base_size)
        self.c_dim, self.img_channels = c_dim, img_channels
        channels = {res: min(channel_base // res, channel_max) for res in [2, *self.block_resolutions]}
        for res in self.block_resolutions[1:]:
            dtype = lowp_dtype if _is_lowp(res, img_resolution, num_fp16_res) else None
            block = DiscriminatorBlock(channels[res], channels[res // 2], img_channels, blur_filter, dtype, wide)
            setattr(self, f"b{res}", block)
        mbstd = mbstd_group_size, mbstd_num_channels
        self.b4 = DiscriminatorEpilogue(channels[4], channels[2], c_dim, img_channels, base_size, *mbstd)
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def layers_from_image(self) -> list[torch.nn.Module]:
        """The layers of the grown network before the last block: fromrgb, conv0, conv1, conv0, ..."""
        blocks = [self.block(res) for res in self.block_resolutions[:0:-1]]
        fromrgb = self.block(self.img_resolution).fromrgb
        return [fromrgb, *(layer for block in blocks for layer in (block.conv0, block.conv1))]

    def forward(self, img: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        """Images [N, img_channels, h, w] of the current resolution and c [N, c_dim] -> scores [N, 1].

        Args:
            img, c: Images, about -1 to 1, and labels (None where c_dim is 0).
        """
        img = _checked("img", img, self.img_channels, *self.img_size())
        x = self.block(self.resolution).features(img)  # [N, C, h, w]
        for res in self.block_resolutions[:0:-1]:
            if res <= self.resolution:
                x = self.block(res)(x)  # [N, C, h / 2, w / 2]
            if res == self.resolution and self.fading:
                half = downsample2d(img, self.block(res).conv1.resample_filter.float())
                old = self.block(res // 2).features(half)  # [N, C, h / 2, w / 2]
                x = fade(x.to(old.dtype), old, self.alpha)
        return self.b4(x, c)


def _register_filter(module: torch.nn.Module, taps: Sequence[float]) -> None:
    module.register_buffer("blur_filter", setup_filter(taps, torch.get_default_device()), persistent=False)
