"""FD-digits: how far generated digits are from real ones, judged by a small classifier trained on the spot.

It is a Frechet distance in the features of a digit classifier, not of Inception, and comparable only with itself.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..training.images import ImageData, to_float, to_uint8
from ..training.state import Generator
from .fid import feature_distance

FEATURES = 64
EPOCHS = 12
TEST_SHARE = 4  # every fourth image tests the judge


class FDDigits(NamedTuple):
    """What `fd_digits` finds."""

    class_accuracy: float  # share of the samples that the judge takes for the class they were made as
    fd: float  # Frechet distance between samples and real images
    fd_floor: float  # the same between the judge's training and test images, both real
    judge_accuracy: float  # of the judge on real test images


class Judge(nn.Module):
    """Classifier of grey digits of 8, 16 or 32 pixels; its features are the penultimate layer."""

    def __init__(self, resolution: int, num_classes: int):
        super().__init__()
        layers: list[nn.Module] = []
        channels, size = 1, resolution
        while size > 4:
            wider = min(max(channels * 2, 16), 64)
            layers += [nn.Conv2d(channels, wider, 3, stride=2, padding=1), nn.ReLU()]
            channels, size = wider, size // 2
        layers += [nn.Flatten(), nn.Linear(channels * size * size, FEATURES), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.out = nn.Linear(FEATURES, num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images [N, 1, R, R] in [-1, 1] to features [N, FEATURES] and class scores [N, num_classes]."""
        features = self.features(x)
        return features, self.out(features)


def fd_digits(G_ema: Generator, data: ImageData, num_samples: int = 2000, seed: int = 0) -> FDDigits:
    """Class accuracy and FD-digits of a class-conditional generator, against all real images.

    Args:
        G_ema: Generator of images like the data's, `G_ema(z, c)`, with `z_dim`.
        data: Grey images with class numbers.
        num_samples: Samples, spread evenly over the classes.
        seed: Of the judge and of the samples.

    Raises:
        ValueError: The data is not grey or has no class numbers.

    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017,
        section 3 (the distance; the features are the judge's).
    """
    if data.channels != 1 or data.labels is None or data.num_classes is None:
        raise ValueError(f"fd_digits: data must be grey with class numbers, got {data.name}")
    images = data.read(np.arange(len(data)))  # uint8 [N, 1, R, R]
    labels = torch.from_numpy(data.labels)
    device = next(G_ema.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        test = torch.arange(len(data)) % TEST_SHARE == 0
        judge = _train_judge(to_float(images[~test]), labels[~test], data.num_classes)
        classes = torch.arange(num_samples) % data.num_classes
        fakes = _sample(G_ema, classes, data.num_classes)  # uint8 [num_samples, 1, R, R]
    real_features, real_classes = _judge(judge, images)
    fake_features, fake_classes = _judge(judge, fakes)
    return FDDigits(
        class_accuracy=(fake_classes == classes).double().mean().item(),
        fd=feature_distance(fake_features, real_features),
        fd_floor=feature_distance(real_features[~test], real_features[test]),
        judge_accuracy=(real_classes == labels)[test].double().mean().item(),
    )


def _train_judge(images: Tensor, labels: Tensor, num_classes: int) -> Judge:
    judge = Judge(images.shape[-1], num_classes)
    steps = EPOCHS * (len(images) // 64)
    optimiser = torch.optim.Adam(judge.parameters(), lr=3e-3, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(images), (64,))
        _, scores = judge(images[chosen])
        optimiser.zero_grad()
        F.cross_entropy(scores, labels[chosen]).backward()
        optimiser.step()
        schedule.step()
    return judge.eval()


@torch.no_grad()
def _sample(G_ema: Generator, classes: Tensor, num_classes: int) -> Tensor:
    device = next(G_ema.parameters()).device
    c = F.one_hot(classes, num_classes).float()  # [N, num_classes]
    z = torch.randn(len(classes), G_ema.z_dim)
    parts = zip(z.split(100), c.split(100), strict=True)
    return torch.cat([to_uint8(G_ema(zs.to(device), cs.to(device))).cpu() for zs, cs in parts])


@torch.no_grad()
def _judge(judge: Judge, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features [N, FEATURES] and the most likely classes [N] of uint8 images."""
    features, scores = zip(*(judge(to_float(part)) for part in images.split(200)), strict=True)
    return torch.cat(features), torch.cat(scores).argmax(1)
