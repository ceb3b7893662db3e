"""DiffAugment: the random transforms of differentiable augmentation."""

from __future__ import annotations

import torch

from gankern import checks
from gankern.nn.augment_transforms import shift_by_pixels

TRANSLATION = 1 / 8  # of the image's size, at most
CUTOUT = 1 / 2  # of the image's size


class DiffAugment(torch.nn.Module):
    """Transforms every image at random, by the transforms that the policy names, in its order.

    - color: brightness + U(-0.5, 0.5), then the saturation (distance from the mean of the channels) * U(0, 2), then
      the contrast (distance from the image's mean) * U(0.5, 1.5).
    - translation: by whole pixels along x and y, up to an eighth of the size, zeros coming in.
    - cutout: a square of half the size made zero; it may reach over the edges by half of itself.

    Args:
        policy: Names separated by commas, of color, translation and cutout; empty for none.

    Raises:
        ValueError: A name is none of these.

    Source: Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", 2020, sections 3.2 and 4.
    """

    def __init__(self, policy: str = "color,translation,cutout") -> None:
        super().__init__()
        names = [name.strip() for name in policy.split(",") if name.strip()]
        for name in names:
            if name not in TRANSFORMS:
                expected = f"be of {', '.join(TRANSFORMS)}, separated by commas"
                raise checks.bad_value("DiffAugment", "policy", expected, repr(policy))
        self.policy = ",".join(names)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [N, C, H, W] of any floating-point dtype, transformed at random; differentiable to any order.

        Raises:
            TypeError: x is not of a floating-point dtype.
            ValueError: x is no batch of images.
        """
        checks.check_image("DiffAugment", x)
        channels_last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
        y = x.contiguous()
        for name in self.policy.split(",") if self.policy else []:
            draws, transform = TRANSFORMS[name]
            dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
            y = transform(y, torch.rand([draws, len(x)], dtype=dtype, device=x.device))
        return y.contiguous(memory_format=torch.channels_last) if channels_last else y

    def extra_repr(self) -> str:
        return self.policy


def _color(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """All three in one affine map of the channels: c s x + c (1 - s) mean of channels + (1 - c) mean of image + b."""
    channels = x.shape[1]
    brightness, saturation, contrast = u[0] - 0.5, u[1] * 2, u[2] + 0.5  # b, s, c [N]
    mean = x.mean((1, 2, 3))  # [N]
    offset = torch.addcmul(brightness.to(x.dtype), (1 - contrast).to(x.dtype), mean)  # [N]
    chroma = (contrast * saturation)[:, None, None]  # [N, 1, 1]
    grey = (contrast * (1 - saturation) / channels)[:, None, None]  # [N, 1, 1]
    matrix = torch.eye(channels, dtype=u.dtype, device=x.device) * chroma + grey  # [N, C, C]
    return torch.baddbmm(offset[:, None, None], matrix.to(x.dtype), x.flatten(2)).view_as(x)


def _translation(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    furthest = [int(size * TRANSLATION + 0.5) for size in (x.shape[3], x.shape[2])]  # in pixels along x and y
    shift_x, shift_y = ((v * (2 * most + 1)).floor().long() - most for v, most in zip(u, furthest, strict=True))  # [N]
    return shift_by_pixels(x, shift_x, shift_y)


def _cutout(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """The square's centre is any pixel, or, if its side is even, any corner of pixels."""
    outside = []
    for size, v in zip((x.shape[3], x.shape[2]), u, strict=True):
        side = int(size * CUTOUT + 0.5)
        first = (v * (size + 1 - side % 2)).floor() - side // 2  # [N]
        after = torch.arange(size, dtype=v.dtype, device=x.device) - first[:, None]  # [N, size]
        outside.append((after < 0) | (after >= side))
    return x * (outside[0][:, None, None, :] | outside[1][:, None, :, None])


TRANSFORMS = {
    "color": (3, _color),
    "translation": (2, _translation),
    "cutout": (2, _cutout),
}  # and their random numbers
