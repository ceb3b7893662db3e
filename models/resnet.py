"""The residual blocks, widths and frames that SNGAN, SAGAN, Self-Modulation and BigGAN share.

Miyato et al., "Spectral Normalization for Generative Adversarial Networks", 2018; Miyato and Koyama, "cGANs with
Projection Discriminator", 2018; Zhang et al., "Self-Attention Generative Adversarial Networks", 2019; Brock et al.,
"Large Scale GAN Training for High Fidelity Natural Image Synthesis", 2019. Module, parameter and buffer names are those
of BigGAN-PyTorch, the last paper's first author's code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F

from gankern import upsample_add
from gankern.nn import BatchNorm2d, ConditionalBatchNorm2d, Conv2d, SelfAttention2d, attach_spectral_norm

# Channels / ch by nominal resolution: of the generator's input and of each of its blocks' results, and of each of the
# discriminator's blocks' results. Source: Brock et al., 2019, appendix B; the discriminator at 512 mirrors its
# generator.
G_WIDTHS = {
    32: (4, 4, 4, 4),
    64: (16, 16, 8, 4, 2),
    128: (16, 16, 8, 4, 2, 1),
    256: (16, 16, 8, 8, 4, 2, 1),
    512: (16, 16, 8, 8, 4, 2, 1, 1),
}
D_WIDTHS = {
    32: (4, 4, 4, 4),
    64: (1, 2, 4, 8, 16),
    128: (1, 2, 4, 8, 16, 16),
    256: (1, 2, 4, 8, 8, 16, 16),
    512: (1, 1, 2, 4, 8, 8, 16, 16),
}
INITS = ("ortho", "N02", "xavier")

Norm = Callable[..., torch.nn.Module]  # (num_features, act=..., up=...) -> a module (x, s) -> normalised x


def nominal_size(height: int, width: int, resolution: int = 4) -> tuple[int, int]:
    """The nominal resolution of networks for images, and the shorter side that they start from.

    96x96 is 64 with a base of 6, not of 4. Images have height * resolution / 4 times width * resolution / 4 pixels.

    Raises:
        ValueError: there is none.
    """
    height, width = height * resolution // 4, width * resolution // 4
    for nominal in G_WIDTHS:
        base, rest = divmod(4 * min(height, width), nominal)
        rest += 4 * max(height, width) % nominal
        if rest == 0 and (4 <= base < 8 or (nominal == 32 and base in (1, 2, 3))):
            return nominal, base
    expected = "a shorter side of 4, 5, 6 or 7 times 8, 16, ..., 128 pixels, and the longer one as often divisible by 2"
    raise ValueError(f"images must have {expected}, got {width}x{height} (width x height)")


class Stage(NamedTuple):
    """What the blocks at one resolution are to do."""

    in_channels: int
    out_channels: int
    resample: bool  # up in a generator, down in a discriminator
    resolution: int  # of the result, nominal: that of the image where the base is 4x4


def generator_stages(img_resolution: int, ch: int) -> list[Stage]:
    """The stages of a generator, from 4 to img_resolution.

    Raises:
        ValueError: there are no widths for img_resolution.
    """
    widths = [ch * width for width in _widths(G_WIDTHS, img_resolution)]
    return [Stage(i, o, True, 8 << k) for k, (i, o) in enumerate(pairwise(widths))]


def discriminator_stages(img_resolution: int, ch: int, img_channels: int | None) -> list[Stage]:
    """The stages of a discriminator, down to 4, or to 8 at 32.

    Args:
        img_resolution: Nominal.
        ch: Unit of the widths.
        img_channels: Channels that the first stage gets; None where a layer before it makes its first width of them.

    Raises:
        ValueError: there are no widths for img_resolution.
    """
    widths = [ch * width for width in _widths(D_WIDTHS, img_resolution)]
    widths = widths if img_channels is None else [img_channels, *widths]
    num_down = 2 if img_resolution == 32 else img_resolution.bit_length() - 3
    pairs = enumerate(pairwise(widths))
    return [Stage(i, o, k < num_down, img_resolution >> min(k + 1, num_down)) for k, (i, o) in pairs]


class LabelEmbedding(torch.nn.Embedding):
    """c [N, c_dim], one-hot or a mixture of classes, -> [N, embedding_dim]."""

    def forward(self, c: torch.Tensor) -> torch.Tensor:
        return c @ self.weight


def class_batch_norm(c_dim: int, eps: float) -> Norm:
    """Batch normalisation whose gain and bias each class has of its own: s is the label c [N, c_dim].

    Source: Miyato and Koyama, "cGANs with Projection Discriminator", 2018, section 4 (conditional batch normalisation).
    """

    def embedding(cond_features: int, num_features: int, bias: bool) -> torch.nn.Module:
        return LabelEmbedding(cond_features, num_features)

    return partial(ConditionalBatchNorm2d, cond_features=c_dim, eps=eps, linear=embedding)


class GBlock(torch.nn.Module):
    """Norm-ReLU-up-conv-norm-ReLU-conv, beside up-conv1x1: x [N, I, H, W], s -> [N, O, 2H, 2W].

    Args:
        in_channels, out_channels: I and O.
        norm: What makes the normalisations.
    """

    nearest: torch.Tensor

    def __init__(self, in_channels: int, out_channels: int, norm: Norm) -> None:
        super().__init__()
        self.bn1 = norm(in_channels, act="relu", up=2)
        self.conv1 = Conv2d(in_channels, out_channels, 3, padding=1)
        self.bn2 = norm(out_channels, act="relu")
        self.conv2 = Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_sc = Conv2d(in_channels, out_channels, 1)
        self.register_buffer("nearest", torch.ones([2]) / 2, persistent=False)

    def forward(self, x: torch.Tensor, s: torch.Tensor | None) -> torch.Tensor:
        h = self.bn1(x, s)  # [N, I, 2H, 2W]
        h = self.conv1(h)  # [N, O, 2H, 2W]
        h = self.bn2(h, s)
        h = self.conv2(h)
        x = self.conv_sc(x)  # [N, O, H, W]; commutes with the upsampling
        return upsample_add(x, h, self.nearest.float())  # [N, O, 2H, 2W]


class DBlock(torch.nn.Module):
    """(ReLU)-conv-ReLU-conv-(pool), beside conv1x1-(pool): x [N, I, H, W] -> [N, O, H / 2, W / 2] or [N, O, H, W].

    Args:
        in_channels, out_channels: I and O.
        hidden_channels: Between the convolutions.
        preactivation: Whether a ReLU comes first; not before the image.
        down: Whether it halves the size.
        relu_skip: Whether the skip gets what the first ReLU made (PyTorch-StudioGAN), or x.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int,
        preactivation: bool,
        down: bool,
        relu_skip: bool = False,
    ) -> None:
        super().__init__()
        self.preactivation, self.down, self.relu_skip = preactivation, down, relu_skip
        self.conv1 = Conv2d(in_channels, hidden_channels, 3, padding=1, act="relu")
        self.conv2 = Conv2d(hidden_channels, out_channels, 3, padding=1)
        self.conv_sc = Conv2d(in_channels, out_channels, 1) if down or in_channels != out_channels else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x.relu() if self.preactivation else x  # [N, I, H, W]
        x = h if self.relu_skip else x
        h = self.conv1(h)  # [N, hidden, H, W]
        h = self.conv2(h)  # [N, O, H, W]
        if self.down:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)  # [N, O or I, H / 2, W / 2]
        return h + (x if self.conv_sc is None else self.conv_sc(x))  # conv1x1 commutes with the pooling


class ResNetGenerator(torch.nn.Module):
    """z, c -> image: linear, blocks, BN-ReLU-conv-tanh. What the blocks' conditions are, a subclass says.

    Args:
        z_dim, c_dim: Dimensions of the latent and of the label; c_dim 0 for none.
        img_resolution, img_channels: Of the image; the resolution is nominal, see `base_size`.
        in_features: Of the linear layer.
        stages: Of `generator_stages`.
        blocks: The blocks of each stage, the last of which doubles the size.
        attention: Nominal resolutions after whose blocks there is self-attention.
        base_size: Height and width at nominal resolution 4; the image is img_resolution / 4 times as large.
        output_bn_eps: Of the last batch normalisation.
        lowp_dtype: torch.bfloat16 or torch.float16 for features, or None; parameters, linear layers, the image and
            all statistics stay in float32.
        channels_last: Memory format of weights and features.
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        in_features: int,
        stages: Sequence[Stage],
        blocks: Sequence[Sequence[torch.nn.Module]],
        attention: Sequence[int] | None,
        base_size: tuple[int, int],
        output_bn_eps: float,
        lowp_dtype: torch.dtype | None,
        channels_last: bool,
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim = z_dim, c_dim
        self.img_resolution, self.img_channels, self.base_size = img_resolution, img_channels, base_size
        self.lowp_dtype = lowp_dtype
        self.memory_format = _memory_format(channels_last)
        self.linear = torch.nn.Linear(in_features, stages[0].in_channels * base_size[0] * base_size[1])
        self.blocks = torch.nn.ModuleList()
        for stage, own in zip(stages, blocks, strict=True):
            self.blocks.extend(torch.nn.ModuleList([block]) for block in own)
            self.blocks[-1].extend(_attention(stage, img_resolution, attention))  # type: ignore[operator]
        width = stages[-1].out_channels
        bn = BatchNorm2d(width, output_bn_eps, act="relu")
        conv = Conv2d(width, img_channels, 3, padding=1)
        self.output_layer = torch.nn.Sequential(bn, torch.nn.Identity(), conv)  # the published place of a ReLU is 1

    def conditions(self, z: torch.Tensor, c: torch.Tensor | None) -> tuple[torch.Tensor, Sequence[torch.Tensor | None]]:
        """What the linear layer gets [N, in_features], and the condition of each block [N, ...] or None."""
        raise NotImplementedError

    def forward(self, z: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        """z [N, z_dim] and c [N, c_dim] -> image [N, img_channels, H, W], -1 to 1.

        Args:
            z: Latents.
            c: Labels, one-hot or mixtures of classes; None where c_dim is 0.

        Raises:
            ValueError: a shape does not fit.
        """
        z = check_input("z", z, self.z_dim).to(self.linear.weight.dtype)
        c = None if self.c_dim == 0 else check_input("c", c, self.c_dim).to(z.dtype)
        first, conditions = self.conditions(z, c)
        x = self.linear(first)  # [N, C * h * w]
        x = x.unflatten(1, (-1, *self.base_size))  # [N, C, h, w]
        x = x.to(self.lowp_dtype or x.dtype, memory_format=self.memory_format)
        for layers, s in zip(self.blocks, conditions, strict=True):
            x = layers[0](x, s)  # type: ignore[index]  # [N, C, 2h, 2w], ...
            for attention in layers[1:]:  # type: ignore[index]
                x = attention(x)
        x = self.output_layer(x).to(z.dtype)  # [N, img_channels, H, W]
        return x.tanh()


class ResNetDiscriminator(torch.nn.Module):
    """Image, c -> score: blocks, ReLU, sum over pixels, linear, and the label's projection onto the features.

    score = linear(h) + <embed(c), h> with h = sum(relu(blocks(img))).

    Args:
        c_dim, img_resolution, img_channels, attention, lowp_dtype, channels_last: As in `ResNetGenerator`.
        stages: Of `discriminator_stages`.
        blocks: The blocks of each stage.

    Source: Miyato and Koyama, "cGANs with Projection Discriminator", 2018, section 3.
    """

    def __init__(
        self,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        stages: Sequence[Stage],
        blocks: Sequence[Sequence[torch.nn.Module]],
        attention: Sequence[int] | None,
        lowp_dtype: torch.dtype | None,
        channels_last: bool,
    ) -> None:
        super().__init__()
        self.c_dim, self.img_resolution, self.img_channels = c_dim, img_resolution, img_channels
        self.lowp_dtype = lowp_dtype
        self.memory_format = _memory_format(channels_last)
        self.input_conv: torch.nn.Module | None = None
        self.blocks = torch.nn.ModuleList()
        for stage, own in zip(stages, blocks, strict=True):
            self.blocks.append(torch.nn.ModuleList([*own, *_attention(stage, img_resolution, attention)]))
        width = stages[-1].out_channels
        self.linear = torch.nn.Linear(width, 1)
        self.embed = LabelEmbedding(c_dim, width) if c_dim > 0 else None

    def layers_from_image(self) -> list[torch.nn.Module]:
        """The blocks' convolutions, each block's shortcut last, and each attention as one."""
        layers = [] if self.input_conv is None else [self.input_conv]
        for block in (block for stage in self.blocks for block in stage):  # type: ignore[attr-defined]
            whole = bool(list(block.parameters(recurse=False)))
            layers += [block] if whole else [part for part in block.children() if list(part.parameters())]
        return layers

    def forward(self, img: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        """Images [N, img_channels, H, W] and c [N, c_dim] -> scores [N, 1].

        Args:
            img: Images, -1 to 1. Their size is free: all pixels of the last features are summed.
            c: Labels, one-hot or mixtures of classes; None where c_dim is 0.

        Raises:
            ValueError: a shape does not fit.
        """
        if img.ndim != 4 or img.shape[1] != self.img_channels:
            raise ValueError(f"img must have shape [N, {self.img_channels}, H, W], got {list(img.shape)}")
        dtype = self.linear.weight.dtype
        x = img.to(self.lowp_dtype or dtype, memory_format=self.memory_format)
        x = x if self.input_conv is None else self.input_conv(x)
        for stage in self.blocks:
            for layer in stage:  # type: ignore[attr-defined]
                x = layer(x)  # [N, C, H / 2, W / 2], ...
            x = x.contiguous(memory_format=self.memory_format)  # a grey image is in no format, and what follows it
        h = x.to(dtype).relu().sum([2, 3])  # [N, C]
        scores = self.linear(h)  # [N, 1]
        if self.embed is not None:
            c = check_input("c", c, self.c_dim).to(dtype)
            scores = scores + (self.embed(c) * h).sum(1, keepdim=True)
        return scores


def set_up(
    network: torch.nn.Module,
    init: str,
    skip: Sequence[str] = (),
    spectral_norm: bool = True,
    sn_eps: float = 1e-6,
    num_itrs: int = 1,
    num_svs: int = 1,
    channels_last: bool = False,
    sn_layout: str = "biggan",
) -> None:
    """The last step of a constructor: initial weights, spectral norm, memory format.

    Args:
        network: Changed in place.
        init: 'ortho', 'N02' (normal, standard deviation 0.02) or 'xavier' (uniform), for the weights of convolutions,
            linear layers and embeddings; their biases are as torch makes them.
        skip: Names of modules without spectral norm.
        spectral_norm: Whether there is any.
        sn_eps, num_itrs, num_svs: As `eps`, `num_iters` and `num_svs` in `gankern.nn.attach_spectral_norm`.
        channels_last: Memory format of the weights.
        sn_layout: `layout` of `gankern.nn.attach_spectral_norm`.

    Raises:
        ValueError: `init` or `sn_layout` is unknown.
    """
    if init not in INITS:
        raise ValueError(f"init must be one of {', '.join(INITS)}, got {init!r}")
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear | torch.nn.Embedding):
            _initialise(module.weight, init)
    if spectral_norm:
        attach_spectral_norm(network, sn_layout, skip=skip, eps=sn_eps, num_iters=num_itrs, num_svs=num_svs)
    if channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def check_input(name: str, value: torch.Tensor | None, *shape: int) -> torch.Tensor:
    """The value, if its shape is [N, *shape].

    Raises:
        ValueError: it is not.
    """
    if value is None or value.shape[1:] != shape:
        got = None if value is None else list(value.shape)
        raise ValueError(f"{name} must have shape [N, {', '.join(map(str, shape))}], got {got}")
    return value


def _initialise(weight: torch.Tensor, init: str) -> None:
    if init == "ortho":
        torch.nn.init.orthogonal_(weight)
    elif init == "N02":
        torch.nn.init.normal_(weight, 0, 0.02)
    else:
        torch.nn.init.xavier_uniform_(weight)


def _widths(table: dict[int, tuple[int, ...]], img_resolution: int) -> tuple[int, ...]:
    if img_resolution not in table:
        expected = ", ".join(map(str, table))
        raise ValueError(
            f"img_resolution must be one of {expected} (base_size makes other sizes), got {img_resolution}"
        )
    return table[img_resolution]


def _attention(stage: Stage, img_resolution: int, attention: Sequence[int] | None) -> list[torch.nn.Module]:
    """The attention behind a stage, if there is one; by default at 64."""
    attention = (64,) if attention is None else attention
    wrong = [r for r in attention if r < 8 or r & (r - 1) or r > max(img_resolution, 64)]
    if wrong:
        raise ValueError(f"attention must name powers of two from 8 to {img_resolution}, got {wrong}")
    return [SelfAttention2d(stage.out_channels, Conv2d)] if stage.resolution in attention else []


def _memory_format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format
