"""PPL, perceptual path length: how far the image moves when the latent moves a little; low means a smooth space."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ranks import Rows, shares, world_size
from ..training.state import Generator

NUM_PAIRS = 50_000
EPSILON = 1e-4
LARGEST = 256  # larger images are averaged down to this size
FACE = (3 / 8, 7 / 8, 2 / 8, 6 / 8)  # top, bottom, left, right of the face in an FFHQ image

Distance = Callable[[Tensor, Tensor], Tensor]  # two float images [N, 3, H, W] in [-1, 1] -> [N], LPIPS for example
Report = Callable[[str, int, int], None]


@torch.no_grad()
def ppl(
    G: Generator,
    distance: Distance,
    labels: Tensor | None = None,
    num_pairs: int = NUM_PAIRS,
    space: str = "w",
    sampling: str = "end",
    crop: tuple[float, float, float, float] | None = None,
    interpolation: str | None = None,
    epsilon: float = EPSILON,
    batch: int = 16,
    seed: int = 0,
    report: Report = lambda what, done, total: None,
) -> float:
    """E[distance(G(path(t)), G(path(t + epsilon)))] / epsilon^2 over random paths, without the lowest and highest 1 %.

    Both images of a pair get the same noise, another one for each pair.

    Args:
        G: Generator, `G(z, c)`; for `space="w"` with `mapping` and `synthesis`.
        distance: Perceptual distance.
        labels: Labels [num_pairs, c_dim] of the pairs; None for a model without.
        num_pairs: 50,000 for StyleGAN2, 100,000 for StyleGAN 1.
        space: "z" or "w".
        sampling: "full": t uniform in [0, 1]; "end": t = 0.
        crop: Top, bottom, left and right edge as fractions of the image; None for all of it (StyleGAN2), `FACE` for
            StyleGAN 1's figures on FFHQ.
        interpolation: "slerp" or "lerp". By default slerp in z, lerp in w; torch-fidelity uses lerp in z.
        epsilon: Length of the step.
        batch: Pairs at a time.
        seed: Of latents, times and noise.
        report: Told how far it is.

    Raises:
        ValueError: An option is not one of its values.

    Source: Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019,
        section 4.1; Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, section 3.
    """
    interpolation = interpolation or ("slerp" if space == "z" else "lerp")
    options = {"space": ("z", "w"), "sampling": ("full", "end"), "interpolation": ("slerp", "lerp")}
    for name, value in {"space": space, "sampling": sampling, "interpolation": interpolation}.items():
        if value not in options[name]:
            raise ValueError(f"ppl: {name} must be one of {', '.join(options[name])}, got {value}")
    if space == "w" and not hasattr(G, "mapping"):
        raise ValueError(f"ppl: space w needs a generator with a mapping, {type(G).__name__} has z only")
    device = next(G.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(num_pairs, 2, G.z_dim, generator=generator)
    t = torch.rand(num_pairs, generator=generator) if sampling == "full" else torch.zeros(num_pairs)
    c = torch.zeros(num_pairs, 0) if labels is None else labels
    move = slerp if interpolation == "slerp" else torch.lerp
    found = Rows()
    for first, last in shares(num_pairs, batch):
        ends, times, cs = z[first:last].to(device), t[first:last, None].to(device), c[first:last].to(device)
        if space == "w":
            ends = G.mapping(ends.flatten(0, 1), cs.repeat_interleave(2, 0)).unflatten(0, (-1, 2))  # [n, 2, num_ws, w]
            times = times[..., None]
        times = times.to(ends.dtype)
        images = []
        for step in (times, times + epsilon):
            latents = move(ends[:, 0], ends[:, 1], step)
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                torch.manual_seed(seed * 1_000_003 + first)  # the same noise for both
                image = G.synthesis(latents) if space == "w" else G(latents, cs)
            images.append(_prepare(image, crop))
        found.add(first, distance(*images).double() / epsilon**2)
        report("PPL", min(last + (world_size() - 1) * batch, num_pairs), num_pairs)
    return _trimmed_mean(found.gather())


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The point at t on the great circle through a and b, with a normal latent's typical length sqrt(z_dim).

    StyleGAN and ProGAN normalise z, so that the length matters to other generators only.

    Args:
        a, b: Latents [N, z_dim].
        t: [N, 1], 0 at a and 1 at b.

    Source: Shoemake, "Animating Rotation with Quaternion Curves", 1985, section 3.3.
    """
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    cosine = (a * b).sum(-1, keepdim=True)
    angle = t * cosine.clamp(-1, 1).acos()
    across = F.normalize(b - cosine * a, dim=-1)
    return (a * angle.cos() + across * angle.sin()) * math.sqrt(a.shape[-1])


def _prepare(image: Tensor, crop: tuple[float, float, float, float] | None) -> Tensor:
    """Crops, averages down to at most 256 pixels, and repeats grey: float [N, 3, H, W]."""
    image = image.float()
    if crop is not None:
        height, width = image.shape[2:]
        top, bottom, left, right = crop
        image = image[:, :, int(top * height) : int(bottom * height), int(left * width) : int(right * width)]
    factor = max(min(image.shape[2:]) // LARGEST, 1)
    if factor > 1:
        image = F.avg_pool2d(image, factor)
    return image.expand(-1, 3, -1, -1)


def _trimmed_mean(values: Tensor) -> float:
    """Mean of the values from the 1st percentile, rounded down, to the 99th, rounded up."""
    ordered = values.sort().values
    low = math.floor(0.01 * (len(ordered) - 1))
    high = math.ceil(0.99 * (len(ordered) - 1))
    return ordered[(ordered >= ordered[low]) & (ordered <= ordered[high])].mean().item()
