"""BigGAN and BigGAN-deep, with the module, parameter and buffer names of the first author's PyTorch code.

Brock, Donahue, Simonyan: "Large Scale GAN Training for High Fidelity Natural Image Synthesis", 2019. State dicts of
BigGAN-PyTorch, both architectures, load with `load_state_dict(strict=True)`; see `output_bn_eps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F

from gankern import upsample_add
from gankern.nn import BatchNorm2d, ConditionalBatchNorm2d, Conv2d

from .resnet import (
    DBlock,
    GBlock,
    LabelEmbedding,
    Norm,
    ResNetDiscriminator,
    ResNetGenerator,
    class_batch_norm,
    discriminator_stages,
    generator_stages,
    set_up,
)


class DeepGBlock(torch.nn.Module):
    """A bottleneck: x [N, I, H, W], s -> [N, O, up * H, up * W]; the skip drops the channels from O on.

    Args:
        in_channels, out_channels: I and O, at most I; inside there are I / 4.
        norm: What makes the normalisations.
        up: 2 or 1.

    Source: Brock et al., 2019, appendix B, figure 16.
    """

    nearest: torch.Tensor

    def __init__(self, in_channels: int, out_channels: int, norm: Norm, up: int) -> None:
        super().__init__()
        self.out_channels, self.up = out_channels, up
        hidden = in_channels // 4
        self.bn1 = norm(in_channels, act="relu")
        self.conv1 = Conv2d(in_channels, hidden, 1)
        self.bn2 = norm(hidden, act="relu", up=up)
        self.conv2 = Conv2d(hidden, hidden, 3, padding=1)
        self.bn3 = norm(hidden, act="relu")
        self.conv3 = Conv2d(hidden, hidden, 3, padding=1)
        self.bn4 = norm(hidden, act="relu")
        self.conv4 = Conv2d(hidden, out_channels, 1)
        self.register_buffer("nearest", torch.ones([2]) / 2, persistent=False)

    def forward(self, x: torch.Tensor, s: torch.Tensor | None) -> torch.Tensor:
        h = self.bn1(x, s)  # [N, I, H, W]
        h = self.conv1(h)  # [N, hidden, H, W]
        h = self.bn2(h, s)  # [N, hidden, up * H, up * W]
        h = self.conv2(h)
        h = self.bn3(h, s)
        h = self.conv3(h)
        h = self.bn4(h, s)
        h = self.conv4(h)  # [N, O, up * H, up * W]
        x = x[:, : self.out_channels]  # [N, O, H, W]
        return x + h if self.up == 1 else upsample_add(x, h, self.nearest.float())


class DeepDBlock(torch.nn.Module):
    """A bottleneck: x [N, I, H, W] -> [N, O, H / 2, W / 2] or [N, O, H, W]; the skip gets its missing channels added.

    Args:
        in_channels, out_channels: I and O, at least I; inside there are O / 4.
        down: Whether it halves the size.

    Source: Brock et al., 2019, appendix B, figure 16.
    """

    def __init__(self, in_channels: int, out_channels: int, down: bool = False) -> None:
        super().__init__()
        self.down = down
        hidden = out_channels // 4
        self.conv1 = Conv2d(in_channels, hidden, 1, act="relu")
        self.conv2 = Conv2d(hidden, hidden, 3, padding=1, act="relu")
        self.conv3 = Conv2d(hidden, hidden, 3, padding=1, act="relu")
        self.conv4 = Conv2d(hidden, out_channels, 1)
        self.conv_sc = Conv2d(in_channels, out_channels - in_channels, 1) if in_channels != out_channels else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv1(x.relu())  # [N, hidden, H, W]
        h = self.conv2(h)
        h = self.conv3(h)
        if self.down:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)  # [N, hidden or I, H / 2, W / 2]
        h = self.conv4(h)  # [N, O, H / 2, W / 2]
        return h + (x if self.conv_sc is None else torch.cat([x, self.conv_sc(x)], dim=1))


class Generator(ResNetGenerator):
    """G: z, c -> image.

    Each block's normalisations are conditioned on s = [shared(c), a chunk of z], in BigGAN-deep on s = [shared(c), z].

    Args:
        z_dim: Dimension of z; with `hier` a multiple of the number of blocks + 1 (but for `deep`).
        c_dim: Number of classes; 0 for none.
        img_resolution: Nominal: 32, 64, 128, 256 or 512; img_channels: channels of the image.
        ch: Unit of the widths.
        deep: BigGAN-deep.
        depth: Blocks per resolution; default 2 if `deep`, else 1.
        hier: Whether z also enters at every block.
        shared_dim: Dimension of the embedding of c that all blocks share; 0 for one embedding per normalisation.
        attention: Nominal resolutions with self-attention, by default 64; of those that there are.
        base_size: Height and width at nominal resolution 4, e.g. (6, 6) and img_resolution 64 for images of 96x96.
        init: 'ortho', 'N02' or 'xavier'.
        bn_eps: Of the conditional batch normalisations.
        output_bn_eps: Of the one before the image; default bn_eps. BigGAN-PyTorch ignores its own option there and
            always takes 1e-5: so must who loads weights that it trained or converted with another bn_eps.
        spectral_norm: Whether all layers but the embeddings have one; sn_eps, num_itrs, num_svs, sn_layout: its
            options, as in `set_up`.
        lowp_dtype, channels_last: As in `ResNetGenerator`.

    Raises:
        ValueError: options that do not fit each other.
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        *,
        ch: int = 96,
        deep: bool = False,
        depth: int | None = None,
        hier: bool = True,
        shared_dim: int = 128,
        attention: Sequence[int] | None = None,
        base_size: tuple[int, int] = (4, 4),
        init: str = "ortho",
        bn_eps: float = 1e-5,
        output_bn_eps: float | None = None,
        spectral_norm: bool = True,
        sn_eps: float = 1e-6,
        num_itrs: int = 1,
        num_svs: int = 1,
        sn_layout: str = "biggan",
        lowp_dtype: torch.dtype | None = None,
        channels_last: bool = False,
    ) -> None:
        stages = generator_stages(img_resolution, ch)
        depth = _depth(deep, depth)
        shared_dim = shared_dim if c_dim > 0 else 0
        slots = len(stages) + 1
        if deep and not hier:
            raise ValueError("hier must be True for deep=True, got False")
        if hier and c_dim > 0 and shared_dim == 0:
            raise ValueError("shared_dim must be positive for hier=True, got 0")
        if hier and not deep and z_dim % slots:
            raise ValueError(f"z_dim must be a multiple of {slots}, one part per block and one more, got {z_dim}")
        chunk = z_dim if deep or not hier else z_dim // slots
        norm = _norm(c_dim, shared_dim, chunk if hier else 0, bn_eps)
        if deep:
            blocks = [_deep_blocks(s.in_channels, s.out_channels, norm, depth) for s in stages]
        else:
            blocks = [[GBlock(s.in_channels, s.out_channels, norm)] for s in stages]
        super().__init__(
            z_dim,
            c_dim,
            img_resolution,
            img_channels,
            in_features=chunk + shared_dim if deep else chunk,
            stages=stages,
            blocks=blocks,
            attention=attention,
            base_size=base_size,
            output_bn_eps=bn_eps if output_bn_eps is None else output_bn_eps,
            lowp_dtype=lowp_dtype,
            channels_last=channels_last,
        )
        self.deep, self.hier, self.chunk = deep, hier, chunk
        self.shared = LabelEmbedding(c_dim, shared_dim) if shared_dim > 0 else None
        embeddings = [name for name, module in self.named_modules() if isinstance(module, LabelEmbedding)]
        set_up(self, init, embeddings, spectral_norm, sn_eps, num_itrs, num_svs, channels_last, sn_layout)

    def conditions(self, z: torch.Tensor, c: torch.Tensor | None) -> tuple[torch.Tensor, Sequence[torch.Tensor | None]]:
        """The hierarchical latents (section 3.1, figure 15)."""
        y = c if self.shared is None or c is None else self.shared(c)  # [N, shared_dim], or [N, c_dim]
        if self.deep:
            s = z if y is None else torch.cat([y, z], dim=1)  # [N, shared_dim + z_dim]
            return s, [s] * len(self.blocks)
        if not self.hier:
            return z, [y] * len(self.blocks)
        first, *chunks = z.split(self.chunk, dim=1)  # each [N, z_dim / (blocks + 1)]
        return first, chunks if y is None else [torch.cat([y, chunk], dim=1) for chunk in chunks]


class Discriminator(ResNetDiscriminator):
    """D: image, c -> score.

    Args:
        c_dim, img_resolution, img_channels, ch, deep, depth, attention, init, lowp_dtype, channels_last: As in
            `Generator`.
        wide: Whether a block is as wide between its convolutions as after them, or as before them; not for `deep`.
        relu_skip: As in `gankern.models.resnet.DBlock`; not for `deep`.
        spectral_norm: Whether all layers, the embedding too, have one; sn_eps, num_itrs, num_svs, sn_layout: as in
            `set_up`.

    Raises:
        ValueError: options that do not fit each other.
    """

    def __init__(
        self,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        *,
        ch: int = 96,
        deep: bool = False,
        depth: int | None = None,
        wide: bool = True,
        relu_skip: bool = False,
        attention: Sequence[int] | None = None,
        init: str = "ortho",
        spectral_norm: bool = True,
        sn_eps: float = 1e-6,
        num_itrs: int = 1,
        num_svs: int = 1,
        sn_layout: str = "biggan",
        lowp_dtype: torch.dtype | None = None,
        channels_last: bool = False,
    ) -> None:
        depth = _depth(deep, depth)
        blocks: list[list[torch.nn.Module]] = []
        stages = discriminator_stages(img_resolution, ch, None if deep else img_channels)
        for i, (in_channels, out_channels, down, _) in enumerate(stages):
            if deep:
                same = [DeepDBlock(out_channels, out_channels) for _ in range(depth - 1)]
                blocks.append([DeepDBlock(in_channels, out_channels, down), *same])
            else:
                hidden = out_channels if wide else in_channels
                blocks.append([DBlock(in_channels, out_channels, hidden, i > 0, down, relu_skip)])
        super().__init__(c_dim, img_resolution, img_channels, stages, blocks, attention, lowp_dtype, channels_last)
        if deep:
            self.input_conv = Conv2d(img_channels, stages[0].in_channels, 3, padding=1)
        set_up(self, init, (), spectral_norm, sn_eps, num_itrs, num_svs, channels_last, sn_layout)


def _depth(deep: bool, depth: int | None) -> int:
    if depth is None:
        return 2 if deep else 1
    if depth < 1 or (depth > 1 and not deep):
        raise ValueError(f"depth must be {'at least 1' if deep else '1 for deep=False'}, got {depth}")
    return depth


def _norm(c_dim: int, shared_dim: int, chunk: int, bn_eps: float) -> Norm:
    """Conditioned on shared(c) and z's chunk, or on c by an embedding of its own, or not at all."""
    if shared_dim + chunk > 0:
        return partial(ConditionalBatchNorm2d, cond_features=shared_dim + chunk, eps=bn_eps)
    if c_dim > 0:
        return class_batch_norm(c_dim, bn_eps)
    return partial(BatchNorm2d, eps=bn_eps)


def _deep_blocks(in_channels: int, out_channels: int, norm: Norm, depth: int) -> list[torch.nn.Module]:
    """Those of one stage: the last one doubles the size and changes the width."""
    same: list[torch.nn.Module] = [DeepGBlock(in_channels, in_channels, norm, up=1) for _ in range(depth - 1)]
    return [*same, DeepGBlock(in_channels, out_channels, norm, up=2)]
