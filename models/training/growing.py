"""Real images as the networks of a growing run want them."""

import torch.nn.functional as F
from torch import Tensor

import gankern

from .schedule import Stage
from .state import Discriminator


def shrink(img: Tensor, D: Discriminator, now: Stage) -> Tensor:
    """Real images at the resolution of a stage, without the details that have not faded in; unchanged without growing.

    Each pixel is the mean of those it stands for; while a resolution fades in, the image is blended with its own half
    size, enlarged by repetition.

    Args:
        img: Images of the last resolution [N, C, H, W].
        D: The discriminator that will see them, for img_resolution and alpha.
        now: The stage.

    Returns:
        Images [N, C, h, w], h / H = w / W = resolution / img_resolution.

    Source: Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018, section 2
        and figure 2.
    """
    if now.resolution is None:
        return img
    factor = D.img_resolution // now.resolution
    img = F.avg_pool2d(img, factor) if factor > 1 else img  # [N, C, h, w]
    return gankern.fade_detail(img, D.alpha) if now.fading else img
