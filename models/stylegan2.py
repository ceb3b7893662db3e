"""StyleGAN2 and its discriminator, with the module, parameter and buffer names of the published PyTorch code.

Karras, Laine, Aittala, Hellsten, Lehtinen, Aila: "Analyzing and Improving the Image Quality of StyleGAN", 2020;
low precision, `conv_clamp` and class conditioning as in Karras et al., "Training Generative Adversarial Networks with
Limited Data", 2020. State dicts of the published PyTorch code load with `load_state_dict(strict=True)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from gankern import downsample2d, normalize_2nd_moment, setup_filter, upsample2d, upsample_add
from gankern.nn import EqualizedConv2d, EqualizedLinear, MinibatchStddev, ModulatedConv2d, StyledConv

NOISE_MODES = ("random", "const", "none")
ARCHITECTURES = ("skip", "resnet", "orig")


class MappingNetwork(torch.nn.Module):
    """f: z, c -> ws, an MLP on normalised inputs; in the discriminator it maps c alone.

    Args:
        z_dim, c_dim, w_dim: Dimensions of the latent, the label and the result; z_dim or c_dim may be 0.
        num_ws: How often w is repeated, or None for a result [N, w_dim].
        num_layers: Linear layers.
        embed_features, layer_features: Width of the label's embedding and of the layers; default w_dim.
        activation: Of every layer.
        lr_multiplier: Learning rate relative to that of the other networks.
        w_avg_beta: Decay of the running mean of w, towards which truncation pulls; None for no mean.
    """

    fc0: EqualizedLinear
    w_avg: torch.Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int | None,
        num_layers: int = 8,
        embed_features: int | None = None,
        layer_features: int | None = None,
        activation: str = "lrelu",
        lr_multiplier: float = 0.01,
        w_avg_beta: float | None = 0.995,
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.num_ws = z_dim, c_dim, w_dim, num_ws
        self.w_avg_beta = w_avg_beta
        features = [z_dim] + [layer_features or w_dim] * (num_layers - 1) + [w_dim]
        if c_dim > 0:
            self.embed = EqualizedLinear(c_dim, embed_features or w_dim)
            features[0] += embed_features or w_dim
        self.num_layers = num_layers
        for i in range(num_layers):
            layer = EqualizedLinear(features[i], features[i + 1], activation=activation, lr_multiplier=lr_multiplier)
            setattr(self, f"fc{i}", layer)
        if num_ws is not None and w_avg_beta is not None:
            self.register_buffer("w_avg", torch.zeros([w_dim]))

    def forward(
        self,
        z: torch.Tensor | None,
        c: torch.Tensor | None = None,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        update_emas: bool | None = None,
        skip_w_avg_update: bool = False,
    ) -> torch.Tensor:
        """z [N, z_dim] and c [N, c_dim] -> ws [N, num_ws, w_dim].

        Args:
            z, c: Latents and labels; None where their dimension is 0.
            truncation_psi: Interpolates from the mean w (0) to w (1).
            truncation_cutoff: How many of the ws are truncated, the first; None for all.
            update_emas: Whether the mean of w is updated; None does so in training mode.
            skip_w_avg_update: True keeps that default from updating.
        """
        inputs = []
        if self.z_dim > 0:
            z = _checked("z", z, self.z_dim).to(self.fc0.weight.dtype)
            inputs.append(normalize_2nd_moment(z))  # [N, z_dim]
        if self.c_dim > 0:
            c = _checked("c", c, self.c_dim).to(self.fc0.weight.dtype)
            inputs.append(normalize_2nd_moment(self.embed(c)))  # [N, embed_features]
        w = torch.cat(inputs, dim=1)  # [N, z_dim + embed_features]
        for i in range(self.num_layers):
            w = getattr(self, f"fc{i}")(w)
        if update_emas is None:
            update_emas = self.training and not skip_w_avg_update
        if update_emas and self.num_ws is not None and self.w_avg_beta is not None:
            self.w_avg.lerp_(w.detach().mean(dim=0), 1 - self.w_avg_beta)
        if self.num_ws is None:
            return w  # [N, w_dim]
        ws = w[:, None].repeat(1, self.num_ws, 1)  # [N, num_ws, w_dim]
        if truncation_psi == 1:
            return ws
        if self.w_avg_beta is None:
            raise ValueError(f"truncation_psi must be 1 without a mean of w (w_avg_beta=None), got {truncation_psi}")
        cutoff = self.num_ws if truncation_cutoff is None else truncation_cutoff
        return torch.cat([self.w_avg.lerp(ws[:, :cutoff], truncation_psi), ws[:, cutoff:]], dim=1)


class SynthesisLayer(StyledConv):
    """Modulated convolution, noise, bias, activation (section 2.2, figure 2d), with the noise of the layer's size."""

    noise_const: torch.Tensor

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, size: tuple[int, int], **kwargs: Any) -> None:
        super().__init__(in_channels, out_channels, w_dim, **kwargs)
        self.size = size
        if self.use_noise:
            self.register_buffer("noise_const", torch.randn(size))

    def forward(  # type: ignore[override]
        self, x: torch.Tensor, w: torch.Tensor, noise_mode: str = "random", **kwargs: Any
    ) -> torch.Tensor:
        """x [N, I, H, W] and w [N, w_dim] -> [N, O, H * up, W * up]; `gain` and `fused_modconv` as in `StyledConv`."""
        return super().forward(x, w, self._noise(x.shape[0], noise_mode), **kwargs)

    def _noise(self, n: int, noise_mode: str) -> torch.Tensor | None:
        _one_of("noise_mode", noise_mode, NOISE_MODES)
        if not self.use_noise or noise_mode == "none":
            return None
        if noise_mode == "const":
            return self.noise_const  # [H, W]
        return torch.randn([n, 1, *self.size], device=self.weight.device)  # [N, 1, H, W]


class ToRGBLayer(ModulatedConv2d):
    """1x1 modulated convolution to an image, without demodulation."""

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, conv_clamp: float | None = None) -> None:
        super().__init__(in_channels, out_channels, 1, w_dim, demodulate=False, resample_filter=None)
        self.conv_clamp = conv_clamp
        self.bias = torch.nn.Parameter(torch.zeros([out_channels]))

    def forward(self, x: torch.Tensor, w: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """x [N, I, H, W] and w [N, w_dim] -> [N, img_channels, H, W]; `fused_modconv` as in `StyledConv`."""
        return super().forward(x, w, bias=self.bias, clamp=self.conv_clamp, **kwargs)


class SynthesisBlock(torch.nn.Module):
    """One resolution of the generator (figure 7); `lowp_dtype` None computes in the dtype of ws."""

    resample_filter: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        size: tuple[int, int],
        img_channels: int,
        is_last: bool,
        architecture: str = "skip",
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        conv_clamp: float | None = None,
        lowp_dtype: torch.dtype | None = None,
        **layer_kwargs: Any,
    ) -> None:
        super().__init__()
        self.architecture = _one_of("architecture", architecture, ARCHITECTURES)
        self.is_first = in_channels == 0
        self.has_torgb = is_last or architecture == "skip"
        self.num_conv, self.num_torgb = 2 - self.is_first, int(self.has_torgb)
        self.lowp_dtype = lowp_dtype
        self.register_buffer("resample_filter", setup_filter(resample_filter, torch.get_default_device()))
        layer_kwargs |= {"w_dim": w_dim, "size": size, "conv_clamp": conv_clamp}
        up: dict[str, Any] = {"up": 2, "resample_filter": resample_filter}
        if self.is_first:
            self.const = torch.nn.Parameter(torch.randn([out_channels, *size]))
        else:
            self.conv0 = SynthesisLayer(in_channels, out_channels, **up, **layer_kwargs)
        self.conv1 = SynthesisLayer(out_channels, out_channels, **layer_kwargs)
        if self.has_torgb:
            self.torgb = ToRGBLayer(out_channels, img_channels, w_dim, conv_clamp)
        if not self.is_first and architecture == "resnet":
            self.skip = EqualizedConv2d(in_channels, out_channels, 1, bias=False, **up)

    def forward(
        self,
        x: torch.Tensor | None,
        img: torch.Tensor | None,
        ws: torch.Tensor,
        force_fp32: bool = False,
        fused_modconv: bool | None = None,
        **layer_kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """x [N, I, H / 2, W / 2], the image so far, ws [N, num_conv + num_torgb, w_dim] -> x [N, O, H, W], image."""
        w = iter(ws.unbind(dim=1))
        dtype = ws.dtype if self.lowp_dtype is None or force_fp32 else self.lowp_dtype
        layer_kwargs["fused_modconv"] = fused_modconv
        if x is None:
            x = self.const.to(dtype).expand(ws.shape[0], -1, -1, -1)  # [N, O, H, W]
            x = self.conv1(x, next(w), **layer_kwargs)  # [N, O, H, W]
        elif self.architecture == "resnet":
            x = x.to(dtype)
            y = self.skip(x, gain=math.sqrt(0.5))  # [N, O, H, W]
            x = self.conv0(x, next(w), **layer_kwargs)
            x = self.conv1(x, next(w), gain=math.sqrt(0.5), **layer_kwargs)
            x = y.add_(x)
        else:
            x = self.conv0(x.to(dtype), next(w), **layer_kwargs)  # [N, O, H, W]
            x = self.conv1(x, next(w), **layer_kwargs)
        if self.has_torgb:
            y = self.torgb(x, next(w), fused_modconv=fused_modconv)  # [N, img_channels, H, W]
            img = upsample_add(img, y, self.resample_filter.float()).to(ws.dtype)  # [N, img_channels, H, W]
        elif img is not None:
            img = upsample2d(img, self.resample_filter.float())  # [N, img_channels, H, W]
        return x, img


class SynthesisNetwork(torch.nn.Module):
    """g: ws -> image.

    Args:
        w_dim: Dimension of w.
        img_resolution: Width and height of the image, a power of two, at least 4; nominal, see `base_size`.
        img_channels: Channels of the image.
        channel_base, channel_max: Channels of a layer: channel_base / resolution, at most channel_max.
        num_fp16_res: How many of the highest resolutions compute in `lowp_dtype`; never those below 8.
        lowp_dtype: torch.float16 or torch.bfloat16; parameters, images and the rest stay in float32.
        channels_last: Memory format of weights, which the activations follow.
        base_size: (height, width) of the features at nominal resolution 4; the image has base_size * img_resolution / 4
            pixels.
        block_kwargs: architecture ('skip', 'resnet' or 'orig'), resample_filter, conv_clamp, activation, use_noise.
    """

    b4: SynthesisBlock

    def __init__(
        self,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        channel_base: int = 32768,
        channel_max: int = 512,
        num_fp16_res: int = 0,
        lowp_dtype: torch.dtype = torch.float16,
        channels_last: bool = False,
        base_size: tuple[int, int] = (4, 4),
        **block_kwargs: Any,
    ) -> None:
        super().__init__()
        self.w_dim, self.img_resolution, self.img_channels = w_dim, img_resolution, img_channels
        self.base_size = height, width = _checked_base(base_size)
        self.block_resolutions = _resolutions(img_resolution)
        self.num_ws = 0
        in_channels = 0  # the first block has a constant instead of an input
        for res in self.block_resolutions:
            is_last = res == img_resolution
            block_kwargs["lowp_dtype"] = lowp_dtype if _is_lowp(res, img_resolution, num_fp16_res) else None
            out_channels = min(channel_base // res, channel_max)
            size = height * res // 4, width * res // 4
            block = SynthesisBlock(in_channels, out_channels, w_dim, size, img_channels, is_last, **block_kwargs)
            setattr(self, f"b{res}", block)
            in_channels = out_channels
            self.num_ws += block.num_conv + (block.num_torgb if is_last else 0)
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, ws: torch.Tensor, **block_kwargs: Any) -> torch.Tensor:
        """ws [N, num_ws, w_dim] -> image [N, img_channels, H, W], about -1 to 1.

        Args:
            ws: One w per layer.
            block_kwargs: noise_mode ('random', 'const' or 'none'), fused_modconv (see `gankern.modulated_conv2d`),
                force_fp32 (True ignores lowp_dtype).
        """
        ws = _checked("ws", ws, self.num_ws, self.w_dim).to(self.b4.const.dtype)
        x: Any = None
        img: Any = None
        first = 0
        for res in self.block_resolutions:
            block = getattr(self, f"b{res}")
            block_ws = ws.narrow(1, first, block.num_conv + block.num_torgb)  # ToRGB shares its w with the next conv
            x, img = block(x, img, block_ws, **block_kwargs)
            first += block.num_conv
        return img


class Generator(torch.nn.Module):
    """G: z, c -> image. `synthesis_kwargs` may be given as one dictionary or flat."""

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        mapping_kwargs: dict[str, Any] | None = None,
        synthesis_kwargs: dict[str, Any] | None = None,
        **flat_synthesis_kwargs: Any,
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.img_resolution, self.img_channels = img_resolution, img_channels
        synthesis_kwargs = {**(synthesis_kwargs or {}), **flat_synthesis_kwargs}
        self.synthesis = SynthesisNetwork(w_dim, img_resolution, img_channels, **synthesis_kwargs)
        self.num_ws, self.base_size = self.synthesis.num_ws, self.synthesis.base_size
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, self.num_ws, **(mapping_kwargs or {}))

    def forward(
        self,
        z: torch.Tensor,
        c: torch.Tensor | None = None,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        update_emas: bool | None = None,
        **synthesis_kwargs: Any,
    ) -> torch.Tensor:
        """z [N, z_dim] and c [N, c_dim] -> image; arguments as in `MappingNetwork` and `SynthesisNetwork`."""
        ws = self.mapping(z, c, truncation_psi, truncation_cutoff, update_emas)
        return self.synthesis(ws, **synthesis_kwargs)


class DiscriminatorBlock(torch.nn.Module):
    """One resolution of the discriminator (figure 7); `lowp_dtype` None computes in the dtype of the parameters."""

    resample_filter: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        tmp_channels: int,
        out_channels: int,
        img_channels: int,
        first_layer: int,
        architecture: str = "resnet",
        activation: str = "lrelu",
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        conv_clamp: float | None = None,
        lowp_dtype: torch.dtype | None = None,
        freeze_layers: int = 0,
    ) -> None:
        super().__init__()
        self.architecture = _one_of("architecture", architecture, ARCHITECTURES)
        self.has_fromrgb = in_channels == 0 or architecture == "skip"
        self.lowp_dtype = lowp_dtype
        self.num_layers = 0
        self.register_buffer("resample_filter", setup_filter(resample_filter, torch.get_default_device()))

        def layer(in_channels: int, out_channels: int, kernel_size: int, **kwargs: Any) -> EqualizedConv2d:
            kwargs |= {"trainable": first_layer + self.num_layers >= freeze_layers}
            self.num_layers += 1
            return EqualizedConv2d(in_channels, out_channels, kernel_size, **kwargs)

        tail: dict[str, Any] = {"activation": activation, "conv_clamp": conv_clamp}
        down: dict[str, Any] = {"down": 2, "resample_filter": resample_filter}
        if self.has_fromrgb:
            self.fromrgb = layer(img_channels, tmp_channels, 1, **tail)
        self.conv0 = layer(tmp_channels, tmp_channels, 3, **tail)
        self.conv1 = layer(tmp_channels, out_channels, 3, **down, **tail)
        if architecture == "resnet":
            self.skip = layer(tmp_channels, out_channels, 1, bias=False, **down)

    def forward(
        self, x: torch.Tensor | None, img: torch.Tensor | None, force_fp32: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """x [N, I, H, W] and the image -> x [N, O, H / 2, W / 2] and, if 'skip', the image [N, .., H / 2, W / 2]."""
        dtype = self.conv0.weight.dtype if self.lowp_dtype is None or force_fp32 else self.lowp_dtype
        x = None if x is None else x.to(dtype)  # [N, I, H, W]
        if img is not None and self.has_fromrgb:
            y = self.fromrgb(_in_format_of(self.conv0.weight, img.to(dtype)))  # [N, I, H, W]
            x = y if x is None else x + y
            img = downsample2d(img, self.resample_filter.float()) if self.architecture == "skip" else None
        if self.architecture == "resnet":
            y = self.skip(x, gain=math.sqrt(0.5))  # [N, O, H / 2, W / 2]
            x = self.conv0(x)  # [N, I, H, W]
            x = self.conv1(x, gain=math.sqrt(0.5))  # [N, O, H / 2, W / 2]
            return y.add_(x), img
        x = self.conv0(x)  # [N, I, H, W]
        return self.conv1(x), img  # [N, O, H / 2, W / 2]


class DiscriminatorEpilogue(torch.nn.Module):
    """Features of base_size -> scores, in the dtype of the parameters; `has_fromrgb` adds the image to them first."""

    def __init__(
        self,
        in_channels: int,
        cmap_dim: int,
        img_channels: int,
        has_fromrgb: bool,
        mbstd_group_size: int | None = 4,
        mbstd_num_channels: int = 1,
        activation: str = "lrelu",
        conv_clamp: float | None = None,
        base_size: tuple[int, int] = (4, 4),
    ) -> None:
        super().__init__()
        self.cmap_dim, self.has_fromrgb = cmap_dim, has_fromrgb
        if has_fromrgb:
            self.fromrgb = EqualizedConv2d(img_channels, in_channels, 1, activation=activation)
        self.mbstd = MinibatchStddev(mbstd_group_size, mbstd_num_channels) if mbstd_num_channels > 0 else None
        options: dict[str, Any] = {"activation": activation, "conv_clamp": conv_clamp}
        self.conv = EqualizedConv2d(in_channels + mbstd_num_channels, in_channels, 3, **options)
        self.fc = EqualizedLinear(in_channels * math.prod(base_size), in_channels, activation=activation)
        self.out = EqualizedLinear(in_channels, cmap_dim if cmap_dim > 0 else 1)

    def forward(self, x: torch.Tensor | None, img: torch.Tensor | None, cmap: torch.Tensor | None) -> torch.Tensor:
        """x [N, C, h, w], image [N, img_channels, h, w], cmap [N, cmap_dim] -> scores [N, 1]."""
        dtype = self.fc.weight.dtype
        x = None if x is None else x.to(dtype)
        if img is not None and self.has_fromrgb:
            y = self.fromrgb(_in_format_of(self.conv.weight, img.to(dtype)))  # [N, C, h, w]
            x = y if x is None else x + y
        x = x if self.mbstd is None else self.mbstd(x)  # [N, C + mbstd_num_channels, h, w]
        x = self.conv(x)  # [N, C, h, w]
        x = self.fc(x.flatten(1))  # [N, C]
        x = self.out(x)  # [N, cmap_dim or 1]
        if cmap is not None:
            x = (x * cmap).sum(dim=1, keepdim=True) / math.sqrt(self.cmap_dim)  # [N, 1]
        return x


class Discriminator(torch.nn.Module):
    """D: image, c -> score; the label enters as a projection, scores = <D(image), cmap(c)> / sqrt(cmap_dim).

    Args:
        c_dim: Dimension of the label; 0 for none.
        img_resolution, img_channels, channel_base, channel_max, num_fp16_res: As in `SynthesisNetwork`.
        architecture: 'resnet', 'skip' or 'orig'.
        conv_clamp: Largest absolute value of a convolution's result, or None.
        cmap_dim: Dimension of the projection; default the number of channels at 4x4.
        block_kwargs: activation, resample_filter; freeze_layers, the number of first layers that are not trained.
        mapping_kwargs: Of the label's `MappingNetwork`.
        epilogue_kwargs: mbstd_group_size, mbstd_num_channels, activation.
        lowp_dtype, channels_last, base_size: As in `SynthesisNetwork`.
    """

    def __init__(
        self,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        architecture: str = "resnet",
        channel_base: int = 32768,
        channel_max: int = 512,
        num_fp16_res: int = 0,
        conv_clamp: float | None = None,
        cmap_dim: int | None = None,
        block_kwargs: dict[str, Any] | None = None,
        mapping_kwargs: dict[str, Any] | None = None,
        epilogue_kwargs: dict[str, Any] | None = None,
        *,
        lowp_dtype: torch.dtype = torch.float16,
        channels_last: bool = False,
        base_size: tuple[int, int] = (4, 4),
    ) -> None:
        super().__init__()
        self.c_dim, self.img_resolution, self.img_channels = c_dim, img_resolution, img_channels
        self.base_size = _checked_base(base_size)
        self.block_resolutions = _resolutions(img_resolution)[:0:-1]
        channels = {res: min(channel_base // res, channel_max) for res in [4, *self.block_resolutions]}
        cmap_dim = 0 if c_dim == 0 else channels[4] if cmap_dim is None else cmap_dim
        options: dict[str, Any] = {**(block_kwargs or {}), "architecture": architecture, "conv_clamp": conv_clamp}
        num_layers = 0
        for res in self.block_resolutions:
            in_channels = 0 if res == img_resolution else channels[res]
            options["lowp_dtype"] = lowp_dtype if _is_lowp(res, img_resolution, num_fp16_res) else None
            widths = in_channels, channels[res], channels[res // 2]
            block = DiscriminatorBlock(*widths, img_channels, num_layers, **options)
            setattr(self, f"b{res}", block)
            num_layers += block.num_layers
        if c_dim > 0:
            options = {"w_avg_beta": None, **(mapping_kwargs or {})}
            self.mapping = MappingNetwork(0, c_dim, cmap_dim, None, **options)
        has_fromrgb = architecture == "skip" or img_resolution == 4
        options = {"conv_clamp": conv_clamp, "base_size": base_size, **(epilogue_kwargs or {})}
        self.b4 = DiscriminatorEpilogue(channels[4], cmap_dim, img_channels, has_fromrgb, **options)
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def layers_from_image(self) -> list[torch.nn.Module]:
        """The blocks' layers, the highest resolution first: fromrgb, conv0, conv1, skip, conv0, ..."""
        return [layer for res in self.block_resolutions for layer in getattr(self, f"b{res}").children()]

    def forward(self, img: torch.Tensor, c: torch.Tensor | None = None, **block_kwargs: Any) -> torch.Tensor:
        """Images [N, img_channels, H, W] and c [N, c_dim] -> scores [N, 1].

        Args:
            img, c: Images, about -1 to 1, and labels (None where c_dim is 0).
            block_kwargs: force_fp32 (True ignores lowp_dtype).
        """
        height, width = (side * self.img_resolution // 4 for side in self.base_size)
        x, y = None, _checked("img", img, self.img_channels, height, width)
        for res in self.block_resolutions:
            x, y = getattr(self, f"b{res}")(x, y, **block_kwargs)
        cmap = self.mapping(None, c) if self.c_dim > 0 else None  # [N, cmap_dim]
        return self.b4(x, y, cmap)


def _resolutions(img_resolution: int) -> list[int]:
    """4, 8, 16, ..., img_resolution."""
    if img_resolution < 4 or img_resolution & (img_resolution - 1):
        raise ValueError(f"img_resolution must be a power of two, at least 4, got {img_resolution}")
    return [2**i for i in range(2, img_resolution.bit_length())]


def _checked_base(base_size: tuple[int, int]) -> tuple[int, int]:
    if len(base_size) != 2 or min(base_size) < 1:
        raise ValueError(f"base_size must be (height, width), each at least 1, got {base_size}")
    return base_size


def _is_lowp(resolution: int, img_resolution: int, num_fp16_res: int) -> bool:
    """Whether a resolution is one of the `num_fp16_res` highest, and not below 8."""
    return resolution >= 8 and resolution << num_fp16_res > img_resolution


def _in_format_of(weight: torch.Tensor, img: torch.Tensor) -> torch.Tensor:
    """A grey image with the strides of channels_last, if the weights have that memory format; the same memory.

    Only the strides of one channel tell the two formats apart, and the next convolution goes by them.
    """
    if img.shape[1] != 1 or weight.is_contiguous():
        return img
    n, _, h, w = img.shape
    return img.reshape(n, h, w, 1).permute(0, 3, 1, 2)  # [N, 1, H, W]


def _one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    return value


def _checked(name: str, value: torch.Tensor | None, *shape: int) -> torch.Tensor:
    if value is None or value.shape[1:] != shape:
        got = None if value is None else list(value.shape)
        raise ValueError(f"{name} must have shape [N, {', '.join(map(str, shape))}], got {got}")
    return value
