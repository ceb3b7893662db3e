"""How alike two images look: embeddings of images whose squared distance says it.

An embedding takes images [N, C, H, W], about -1 to 1, and returns [N, F]; it is differentiable.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gankern.nn import Conv2d, EqualizedConv2d

from .training.state import Discriminator

Embedding = Callable[[Tensor], Tensor]
LARGEST = 256  # pixels that VGG16 is shown; larger images are averaged down


def pyramid(images: Tensor) -> Tensor:
    """The Laplacian pyramid, each of whose levels counts as much: the mean of its squares.

    Source: Burt and Adelson, "The Laplacian Pyramid as a Compact Image Code", 1983, sections "The Gaussian Pyramid"
        and "The Laplacian Pyramid"; here with the mean of 2x2 pixels.
    """
    levels = []
    while min(images.shape[2:]) >= 4:
        small = F.avg_pool2d(images, 2)  # [N, C, H / 2, W / 2]
        levels.append(images - F.interpolate(small, size=images.shape[2:], mode="bilinear"))  # [N, C, H, W]
        images = small
    return torch.cat([level.flatten(1) / math.sqrt(level[0].numel()) for level in [*levels, images]], dim=1)


def of_discriminator(D: Discriminator, c: Tensor) -> Embedding:
    """What a discriminator's convolutions give, at every pixel of unit length; all layers and pixels count the same.

    Args:
        D: The discriminator, in evaluation mode.
        c: Labels [1, c_dim] that it is called with; the features do not depend on them.

    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018, equation 1,
        with all weights 1; the features of a discriminator: Larsen et al., "Autoencoding beyond pixels using a learned
        similarity metric", 2016, section 2.
    """
    convolutions = [module for module in D.modules() if isinstance(module, Conv2d | EqualizedConv2d)]

    def embed(images: Tensor) -> Tensor:
        features: list[Tensor] = []
        hooks = [m.register_forward_hook(lambda module, args, x: features.append(x)) for m in convolutions]
        try:
            D(images, c.expand(len(images), -1))
        finally:
            for hook in hooks:
                hook.remove()
        units = [F.normalize(x.float(), dim=1, eps=1e-8).flatten(1) / math.sqrt(x[0, 0].numel()) for x in features]
        return torch.cat(units, dim=1) / math.sqrt(len(units))

    return embed


def of_vgg(path: Path, device: torch.device) -> Embedding:
    """LPIPS of NVIDIA's `vgg16.pt`, of images averaged down to at most 256 pixels.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not TorchScript.
    """
    from .metrics.extractors import load_lpips_embedding

    embed = load_lpips_embedding(path, device)

    def smaller(images: Tensor) -> Tensor:
        factor = max(min(images.shape[2:]) // LARGEST, 1)
        return embed(F.avg_pool2d(images, factor).expand(-1, 3, -1, -1))

    return smaller
