"""ProGAN and its discriminator, which grow from 4x4 to their full resolution while they learn.

Karras, Aila, Laine, Lehtinen: "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018.

Submodules and parameters, for the nominal resolution R (8, 16, ...), with He's gain in brackets:

    G.b4.fc.weight [C * 4 * 4, z_dim + c_dim] (sqrt(2) / 4), G.b4.bias [C] of its result, G.b4.conv1
    G.bR.conv0, which doubles the size, and G.bR.conv1 (sqrt(2)); G.bR.torgb of every R and of 4 (1)
    D.bR.fromrgb of every R and of 4, D.bR.conv0, and D.bR.conv1, which halves the size (sqrt(2))
    D.b4.conv, D.b4.fc (sqrt(2)), D.b4.out [1 + c_dim, C] (1), whose first row is the score

Each is `weight` [O, I, k, k] or [O, I], N(0, 1) at the start and scaled at run time, and `bias` [O], zero and unscaled.
G.bR.conv0 holds the kernel of a true convolution, as transposed convolutions do; all others hold a correlation's.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from gankern import bias_act, downsample2d, fade, pixel_norm
from gankern.nn import EqualizedConv2d, EqualizedLinear, MinibatchStddev

LRELU: dict[str, Any] = {"activation": "lrelu", "weight_gain": math.sqrt(2), "act_gain": 1}
BOX = (1, 1)  # doubles a size by nearest neighbour, and halves it by the mean of 2x2 pixels


class GrowingNetwork(torch.nn.Module):
    """A network with a block for each resolution, of which those up to the current one run.

    Args:
        img_resolution: Nominal resolution when fully grown: a power of two, at least 4.
        base_size: (height, width) of an image at nominal resolution 4.

    Attributes:
        resolution: The nominal current resolution; images have base_size * resolution / 4 pixels.
        fading: Whether it is still being faded in.
        alpha: [] float32, the weight of the newest resolution while fading: data, which the host never reads.

    Source: section 2, figures 1 and 2.
    """

    alpha: torch.Tensor

    def __init__(self, img_resolution: int, base_size: tuple[int, int]) -> None:
        super().__init__()
        if img_resolution < 4 or img_resolution & (img_resolution - 1):
            raise ValueError(f"img_resolution must be a power of two, at least 4, got {img_resolution}")
        if len(base_size) != 2 or min(base_size) < 1:
            raise ValueError(f"base_size must be (height, width), each at least 1, got {base_size}")
        self.img_resolution, self.base_size = img_resolution, base_size
        self.block_resolutions = [2**i for i in range(2, img_resolution.bit_length())]
        self.resolution, self.fading = img_resolution, False
        self.register_buffer("alpha", torch.ones([]))

    def grow(self, resolution: int, fading: bool) -> None:
        """Sets the current resolution, and whether it fades in with the weight `alpha`; no parameter changes.

        Args:
            resolution: Nominal, a power of two from 4 to img_resolution.
            fading: True blends it with the resolution below; 4 has none.

        Raises:
            ValueError: there is no such resolution, or none below it to fade from.
        """
        if not isinstance(resolution, int) or resolution not in self.block_resolutions:
            expected = f"one of {', '.join(map(str, self.block_resolutions))}"
            raise ValueError(f"resolution must be {expected}, got {resolution!r}")
        if fading and resolution == 4:
            raise ValueError("fading must be False at resolution 4, which has none below it, got True")
        self.resolution, self.fading = resolution, bool(fading)

    def img_size(self) -> tuple[int, int]:
        """(height, width) of an image at the current resolution."""
        height, width = self.base_size
        return height * self.resolution // 4, width * self.resolution // 4

    def block(self, resolution: int) -> Any:
        return getattr(self, f"b{resolution}")


class GeneratorStem(torch.nn.Module):
    """Latents to features at resolution 4 (table 2, left, the first two layers); `unit_bias` as in `Generator`."""

    def __init__(
        self, in_features: int, out_channels: int, img_channels: int, base_size: tuple[int, int], unit_bias: bool
    ) -> None:
        super().__init__()
        self.shape, self.unit_bias = (out_channels, *base_size), unit_bias
        self.fc = EqualizedLinear(in_features, math.prod(self.shape), bias=False, weight_gain=math.sqrt(2) / 4)
        self.bias = torch.nn.Parameter(torch.zeros(self.shape if unit_bias else [out_channels]))
        self.conv1 = EqualizedConv2d(out_channels, out_channels, 3, **LRELU)
        self.torgb = EqualizedConv2d(out_channels, img_channels, 1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """z [N, z_dim + c_dim] -> x [N, O, H, W]."""
        x = self.fc(z)  # [N, O * H * W]
        x = x if self.unit_bias else x.reshape(-1, *self.shape)
        x = bias_act(x, self.bias.flatten(), act="lrelu", gain=1)
        x = _normalized(x.reshape(-1, *self.shape))  # [N, O, H, W]
        return _normalized(self.conv1(x))  # [N, O, H, W]


class GeneratorBlock(torch.nn.Module):
    """One resolution of the generator (table 2, left); `lowp_dtype` None computes in the dtype of the parameters."""

    def __init__(
        self, in_channels: int, out_channels: int, img_channels: int, lowp_dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.lowp_dtype = lowp_dtype
        self.conv0 = EqualizedConv2d(in_channels, out_channels, 3, up=2, resample_filter=BOX, **LRELU)
        self.conv1 = EqualizedConv2d(out_channels, out_channels, 3, **LRELU)
        self.torgb = EqualizedConv2d(out_channels, img_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [N, I, H / 2, W / 2] -> [N, O, H, W]."""
        x = x.to(self.lowp_dtype or self.conv0.weight.dtype)
        x = _normalized(self.conv0(x))  # [N, O, H, W]
        return _normalized(self.conv1(x))  # [N, O, H, W]


class Generator(GrowingNetwork):
    """G: z, c -> image at the current resolution.

    Args:
        z_dim, c_dim: Dimensions of the latent and of the label; c_dim 0 for none.
        img_resolution, base_size: As in `GrowingNetwork`.
        img_channels: Channels of the image.
        fmap_base, fmap_decay, fmap_max: Channels at resolution R: fmap_base / (R / 2)^fmap_decay, at most fmap_max.
        unit_bias: Whether the first layer has a bias for each of its units (pytorch_GAN_zoo) or, as published, one for
            each of the channels that they become.
        num_fp16_res: How many of the highest resolutions compute in `lowp_dtype`; never those below 8.
        lowp_dtype: torch.float16 or torch.bfloat16; parameters and images stay in float32.
        channels_last: Memory format of weights, which the activations follow.

    Source: table 2, left; widths: appendix A.
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        *,
        base_size: tuple[int, int] = (4, 4),
        fmap_base: int = 8192,
        fmap_decay: float = 1.0,
        fmap_max: int = 512,
        unit_bias: bool = False,
        num_fp16_res: int = 0,
        lowp_dtype: torch.dtype = torch.float16,
        channels_last: bool = False,
    ) -> None:
        super().__init__(img_resolution, base_size)
        self.z_dim, self.c_dim, self.img_channels = z_dim, c_dim, img_channels
        channels = _widths(self.block_resolutions, fmap_base, fmap_decay, fmap_max)
        self.b4 = GeneratorStem(z_dim + c_dim, channels[4], img_channels, base_size, unit_bias)
        for res in self.block_resolutions[1:]:
            dtype = lowp_dtype if _is_lowp(res, img_resolution, num_fp16_res) else None
            setattr(self, f"b{res}", GeneratorBlock(channels[res // 2], channels[res], img_channels, dtype))
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, z: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        """z [N, z_dim] and c [N, c_dim] -> image [N, img_channels, height, width], about -1 to 1.

        Args:
            z: Latents, N(0, 1); their scale does not matter.
            c: Labels, one-hot; None where c_dim is 0.
        """
        z = _checked("z", z, self.z_dim).to(self.b4.bias.dtype)
        if self.c_dim > 0:
            z = torch.cat([z, _checked("c", c, self.c_dim).to(z.dtype)], dim=1)
        x = self.b4(pixel_norm(z))  # [N, C, 4, 4]
        old = x
        for res in self.block_resolutions[1:]:
            if res <= self.resolution:
                x, old = self.block(res)(x), x  # [N, C, res, res], and half the size
        img = self._image(self.resolution, x)
        if self.fading:
            img = fade(img, self._image(self.resolution // 2, old), self.alpha)
        return img

    def _image(self, resolution: int, x: torch.Tensor) -> torch.Tensor:
        """Features [N, C, H, W] -> image [N, img_channels, H, W] in the dtype of the parameters."""
        return self.block(resolution).torgb(x).to(self.b4.bias.dtype)


class DiscriminatorBlock(torch.nn.Module):
    """One resolution of the discriminator (table 2, right); `lowp_dtype` None computes in the parameters' dtype.

    `fused_scale` True halves the size between the second convolution and its bias and activation, as the two are one
    convolution then; False does so after the activation, as the table has it. The results differ.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        img_channels: int,
        fused_scale: bool,
        lowp_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.fused_scale, self.lowp_dtype = fused_scale, lowp_dtype
        self.fromrgb = EqualizedConv2d(img_channels, in_channels, 1, **LRELU)
        self.conv0 = EqualizedConv2d(in_channels, in_channels, 3, **LRELU)
        down = 2 if fused_scale else 1
        self.conv1 = EqualizedConv2d(in_channels, out_channels, 3, down=down, resample_filter=BOX, **LRELU)

    def features(self, img: torch.Tensor) -> torch.Tensor:
        """Image [N, img_channels, H, W] -> x [N, I, H, W]."""
        return self.fromrgb(img.to(self.lowp_dtype or self.fromrgb.weight.dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [N, I, H, W] -> [N, O, H / 2, W / 2]."""
        x = x.to(self.lowp_dtype or self.conv0.weight.dtype)
        x = self.conv0(x)  # [N, I, H, W]
        x = self.conv1(x)  # [N, O, H / 2, W / 2] if fused_scale, else [N, O, H, W]
        return x if self.fused_scale else downsample2d(x, self.conv1.resample_filter.float())


class DiscriminatorEpilogue(torch.nn.Module):
    """Features at resolution 4 -> scores and logits (table 2, right, the last block), in the parameters' dtype."""

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        c_dim: int,
        img_channels: int,
        base_size: tuple[int, int],
        mbstd: MinibatchStddev,
    ) -> None:
        super().__init__()
        self.fromrgb = EqualizedConv2d(img_channels, in_channels, 1, **LRELU)
        self.mbstd = mbstd
        self.conv = EqualizedConv2d(in_channels + 1, in_channels, 3, **LRELU)
        self.fc = EqualizedLinear(in_channels * math.prod(base_size), hidden_channels, **LRELU)
        self.out = EqualizedLinear(hidden_channels, 1 + c_dim)

    def features(self, img: torch.Tensor) -> torch.Tensor:
        """Image [N, img_channels, H, W] -> x [N, C, H, W]."""
        return self.fromrgb(img.to(self.fromrgb.weight.dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [N, C, H, W] -> [N, 1 + c_dim]."""
        x = self.mbstd(x.to(self.fc.weight.dtype))  # [N, C + 1, H, W]
        x = self.conv(x)  # [N, C, H, W]
        x = self.fc(x.flatten(1))  # [N, hidden_channels]
        return self.out(x)  # [N, 1 + c_dim]


class Discriminator(GrowingNetwork):
    """D: image at the current resolution -> score, and logits of its label.

    Args:
        c_dim: Dimension of the label; 0 for none. It enters through a loss on the logits alone (Odena et al.,
            "Conditional Image Synthesis with Auxiliary Classifier GANs", 2017).
        img_resolution, img_channels, base_size, fmap_base, fmap_decay, fmap_max, num_fp16_res, lowp_dtype,
            channels_last: As in `Generator`.
        fused_scale: Whether a size is halved before the bias and the activation (True) or after (False), see
            `DiscriminatorBlock`: networks trained with one give wrong scores with the other.
        mbstd_group_size: Samples per group of the minibatch standard deviation; None for the whole batch.
        mbstd_grouping, mbstd_unbiased: `grouping` and `unbiased` of `gankern.minibatch_stddev`; 'contiguous' and True
            in pytorch_GAN_zoo.

    Source: table 2, right; minibatch standard deviation: section 3.
    """

    def __init__(
        self,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        *,
        fused_scale: bool = True,
        mbstd_group_size: int | None = 4,
        mbstd_grouping: str = "strided",
        mbstd_unbiased: bool = False,
        base_size: tuple[int, int] = (4, 4),
        fmap_base: int = 8192,
        fmap_decay: float = 1.0,
        fmap_max: int = 512,
        num_fp16_res: int = 0,
        lowp_dtype: torch.dtype = torch.float16,
        channels_last: bool = False,
    ) -> None:
        super().__init__(img_resolution, base_size)
        self.c_dim, self.img_channels = c_dim, img_channels
        channels = _widths([2, *self.block_resolutions], fmap_base, fmap_decay, fmap_max)
        for res in self.block_resolutions[:0:-1]:
            dtype = lowp_dtype if _is_lowp(res, img_resolution, num_fp16_res) else None
            block = DiscriminatorBlock(channels[res], channels[res // 2], img_channels, fused_scale, dtype)
            setattr(self, f"b{res}", block)
        widths = channels[4], channels[2]
        mbstd = MinibatchStddev(mbstd_group_size, grouping=mbstd_grouping, unbiased=mbstd_unbiased)
        self.b4 = DiscriminatorEpilogue(*widths, c_dim, img_channels, base_size, mbstd)
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def layers_from_image(self) -> list[torch.nn.Module]:
        """The layers of the grown network before the last block: fromrgb, conv0, conv1, conv0, ..."""
        blocks = [self.block(res) for res in self.block_resolutions[:0:-1]]
        fromrgb = self.block(self.img_resolution).fromrgb
        return [fromrgb, *(layer for block in blocks for layer in (block.conv0, block.conv1))]

    def forward(
        self, img: torch.Tensor, c: torch.Tensor | None = None, return_logits: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Images [N, img_channels, height, width] at the current resolution -> scores [N, 1].

        Args:
            img: Images, about -1 to 1.
            c: Labels [N, c_dim] or None; taken so that every D is called alike, and not used.
            return_logits: True returns (scores [N, 1], logits [N, c_dim]).

        Raises:
            ValueError: img is not of the current size, or logits are asked for without labels.
        """
        img = _checked("img", img, self.img_channels, *self.img_size())
        if return_logits and self.c_dim == 0:
            raise ValueError("return_logits must be False without labels (c_dim is 0), got True")
        x = self.block(self.resolution).features(img)  # [N, C, height, width]
        for res in self.block_resolutions[:0:-1]:
            if res <= self.resolution:
                x = self.block(res)(x)  # [N, C, res / 2, res / 2]
            if res == self.resolution and self.fading:
                half = downsample2d(img, self.block(res).conv1.resample_filter.float())
                old = self.block(res // 2).features(half)
                x = fade(x.to(old.dtype), old, self.alpha)
        x = self.b4(x)  # [N, 1 + c_dim]
        return (x[:, :1], x[:, 1:]) if return_logits else x[:, :1]


def _widths(resolutions: list[int], fmap_base: int, fmap_decay: float, fmap_max: int) -> dict[int, int]:
    """Channels of each resolution."""
    return {res: min(int(fmap_base / (res / 2) ** fmap_decay), fmap_max) for res in resolutions}


def _normalized(x: torch.Tensor) -> torch.Tensor:
    """Pixelwise feature vector normalisation (section 4.2), with the published epsilon of each precision."""
    return pixel_norm(x, eps=1e-4 if x.dtype.itemsize == 2 else 1e-8)


def _is_lowp(resolution: int, img_resolution: int, num_fp16_res: int) -> bool:
    """Whether a resolution is one of the `num_fp16_res` highest, and not below 8."""
    return resolution >= 8 and resolution << num_fp16_res > img_resolution


def _checked(name: str, value: torch.Tensor | None, *shape: int) -> torch.Tensor:
    if value is None or value.shape[1:] != shape:
        got = None if value is None else list(value.shape)
        raise ValueError(f"{name} must have shape [N, {', '.join(map(str, shape))}], got {got}")
    return value
