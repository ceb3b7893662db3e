"""SAGAN, SNGAN and Self-Modulation: one generator and one discriminator, cut as each paper does.

| | generator | discriminator |
|---|---|---|
| SAGAN | `Generator(...)` | `Discriminator(...)` |
| SNGAN | `Generator(..., attention=(), spectral_norm=False)` | `Discriminator(..., attention=(), wide=False)` |
| Self-Modulation | `Generator(..., modulation="self")`, with the options of either | as of either |

At 32x32 SNGAN has `ch=64` in the generator and `ch=32` in the discriminator, everywhere else 64 in both.

Zhang, Goodfellow, Metaxas, Odena: "Self-Attention Generative Adversarial Networks", 2019. Miyato, Kataoka, Koyama,
Yoshida: "Spectral Normalization for Generative Adversarial Networks", 2018, appendix B. Chen, Lucic, Houlsby, Gelly:
"On Self Modulation for Generative Adversarial Networks", 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from gankern.nn import BatchNorm2d, ConditionalBatchNorm2d

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

MODULATIONS = ("class", "self", "none")


class Generator(ResNetGenerator):
    """G: z, c -> image.

    Args:
        z_dim: Dimension of z.
        c_dim: Number of classes; 0 for none.
        img_resolution: Nominal: 32, 64, 128, 256 or 512; img_channels: channels of the image.
        ch: Unit of the widths.
        modulation: What the gain and bias of each batch normalisation follow from: 'class' (of the label, by an
            embedding), 'self' (of z, and of the label if there is one, by a perceptron) or 'none' (they are learned);
            by default 'class' where there are classes, else 'none'.
        hidden: Width of that perceptron.
        attention: Nominal resolutions with self-attention, by default 64; of those that there are.
        base_size: Height and width at nominal resolution 4.
        init: 'xavier', 'ortho' or 'N02'.
        bn_eps: Of every batch normalisation.
        spectral_norm: Whether all layers but the embeddings have one; sn_eps, num_itrs, num_svs: as in `set_up`.
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
        ch: int = 64,
        modulation: str | None = None,
        hidden: int = 32,
        attention: Sequence[int] | None = None,
        base_size: tuple[int, int] = (4, 4),
        init: str = "xavier",
        bn_eps: float = 1e-5,
        spectral_norm: bool = True,
        sn_eps: float = 1e-8,
        num_itrs: int = 1,
        num_svs: int = 1,
        lowp_dtype: torch.dtype | None = None,
        channels_last: bool = False,
    ) -> None:
        modulation = modulation or ("class" if c_dim > 0 else "none")
        if modulation not in MODULATIONS or (modulation == "class" and c_dim == 0):
            allowed = ", ".join(MODULATIONS if c_dim > 0 else MODULATIONS[1:])
            raise ValueError(f"modulation must be one of {allowed} for c_dim={c_dim}, got {modulation!r}")
        stages = generator_stages(img_resolution, ch)
        norm = _norm(modulation, z_dim, c_dim, hidden, bn_eps)
        super().__init__(
            z_dim,
            c_dim,
            img_resolution,
            img_channels,
            in_features=z_dim,
            stages=stages,
            blocks=[[GBlock(s.in_channels, s.out_channels, norm)] for s in stages],
            attention=attention,
            base_size=base_size,
            output_bn_eps=bn_eps,
            lowp_dtype=lowp_dtype,
            channels_last=channels_last,
        )
        self.modulation = modulation
        embeddings = [name for name, module in self.named_modules() if isinstance(module, LabelEmbedding)]
        set_up(self, init, embeddings, spectral_norm, sn_eps, num_itrs, num_svs, channels_last)

    def conditions(self, z: torch.Tensor, c: torch.Tensor | None) -> tuple[torch.Tensor, Sequence[torch.Tensor | None]]:
        """z for the linear layer; for every block c, or z and c, or nothing."""
        s = c
        if self.modulation == "self":
            s = z if c is None else torch.cat([z, c], dim=1)  # [N, z_dim + c_dim]
        return z, [s] * len(self.blocks)


class Discriminator(ResNetDiscriminator):
    """D: image, c -> score, with the label's projection.

    Args:
        c_dim, img_resolution, img_channels, ch, attention, init, lowp_dtype, channels_last: As in `Generator`.
        wide: Whether a block is as wide between its convolutions as after them (SAGAN), or as before them (SNGAN,
            whose first block is wide all the same: an image has too few channels).
        sn_eps, num_itrs, num_svs: As in `set_up`. The embedding is normalised too.

    Raises:
        ValueError: options that do not fit each other.
    """

    def __init__(
        self,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        *,
        ch: int = 64,
        wide: bool = True,
        attention: Sequence[int] | None = None,
        init: str = "xavier",
        sn_eps: float = 1e-8,
        num_itrs: int = 1,
        num_svs: int = 1,
        lowp_dtype: torch.dtype | None = None,
        channels_last: bool = False,
    ) -> None:
        blocks = []
        stages = discriminator_stages(img_resolution, ch, img_channels)
        for i, (in_channels, out_channels, down, _) in enumerate(stages):
            hidden = out_channels if wide or i == 0 else in_channels
            blocks.append([DBlock(in_channels, out_channels, hidden, preactivation=i > 0, down=down)])
        super().__init__(c_dim, img_resolution, img_channels, stages, blocks, attention, lowp_dtype, channels_last)
        set_up(self, init, (), True, sn_eps, num_itrs, num_svs, channels_last)


def _norm(modulation: str, z_dim: int, c_dim: int, hidden: int, bn_eps: float) -> Norm:
    if modulation == "class":
        return class_batch_norm(c_dim, bn_eps)
    if modulation == "none":
        return partial(BatchNorm2d, eps=bn_eps)

    def perceptron(cond_features: int, num_features: int, bias: bool) -> torch.nn.Module:
        """V max(0, U s + b), Chen et al., 2019, section 2; the gain is 1 plus that."""
        first, second = torch.nn.Linear(cond_features, hidden), torch.nn.Linear(hidden, num_features, bias=bias)
        return torch.nn.Sequential(first, torch.nn.ReLU(), second)

    return partial(ConditionalBatchNorm2d, cond_features=z_dim + c_dim, eps=bn_eps, linear=perceptron)
