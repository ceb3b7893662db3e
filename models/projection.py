"""From an image back to the code of a generator."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .perceptual import Embedding
from .trained import Codes, Trained

SAMPLES = 10000  # latents from which the mean and the deviation of w are estimated
CANDIDATES = 256  # latents tried for a start, where the mean of w is none


def project(
    trained: Trained,
    embed: Embedding,
    target: Tensor,
    c: Tensor | None,
    num_steps: int,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> tuple[Tensor, Tensor]:
    """Optimises w, one for all layers, and the noise, so that the image resembles a target; without styles z.

    The random numbers are those of torch's global generator.

    Args:
        trained: The generator, whose layers compute in fp32.
        embed: Says by its squared distance how alike images are.
        target: Image [1, C, H, W], -1 to 1.
        c: Label [1, c_dim], or None for that of the nearest of some samples.
        num_steps: Steps of Adam.
        report: Told what is being done, how much of it is, and of how much.

    Returns:
        The start and w (or z) after each step [num_steps + 1, dim], and the label [1, c_dim].

    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, appendix D.
    """
    with torch.no_grad():
        wanted = embed(target)  # [1, F]
        if c is None or not trained.has_styles:
            z, c = _nearest(trained, embed, wanted, c, report)
        mean, std = _statistics(trained, c)
        start = mean if trained.has_styles else z  # [1, dim]
    x = start.clone().requires_grad_(True)
    way = [start]
    with _free_noise(trained) as noises:
        optimiser = torch.optim.Adam([x, *noises], betas=(0.9, 0.999))
        for step in range(num_steps):
            t = step / num_steps
            optimiser.param_groups[0]["lr"] = learning_rate(t)
            jitter = torch.randn_like(x) * (0.05 * std * max(1 - t / 0.75, 0) ** 2)  # [1, dim]
            image = trained.draw(codes_of(trained, x + jitter, c))  # [1, C, H, W]
            loss = (embed(image) - wanted).square().sum() + 1e5 * noise_regulariser(noises)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                for noise in noises:
                    noise.sub_(noise.mean()).mul_(noise.square().mean().rsqrt())
            way.append(x.detach().clone())
            report("steps", step + 1, num_steps)
    return torch.cat(way), c


def learning_rate(t: float) -> float:
    """0.1, reached in the first twentieth of the steps and left along a cosine in the last quarter; t is 0 to 1."""
    return 0.1 * min(t / 0.05, 1) * (0.5 - 0.5 * math.cos(math.pi * min((1 - t) / 0.25, 1)))


def noise_regulariser(noises: Sequence[Tensor]) -> Tensor:
    """How far noise maps [h, w] correlate with themselves, one pixel on, at every scale down to 8 pixels: [].

    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, appendix D.
    """
    loss = torch.zeros([], device=noises[0].device if noises else None)
    for noise in noises:
        n = noise[None, None]  # [1, 1, h, w]
        while True:
            loss = loss + (n * n.roll(1, 3)).mean() ** 2 + (n * n.roll(1, 2)).mean() ** 2
            if min(n.shape[2:]) <= 8:
                break
            n = 2 * F.avg_pool2d(n, 2)  # [1, 1, h / 2, w / 2], still of unit variance
    return loss


def codes_of(trained: Trained, x: Tensor, c: Tensor) -> Codes:
    """The codes of x [N, dim], w for all layers or z, with one label c [1, c_dim]."""
    if trained.has_styles:
        return Codes(x[:, None].expand(-1, trained.num_layers, -1), c.expand(len(x), -1))
    return Codes(x.unflatten(1, (trained.num_layers, -1)), c.expand(len(x), -1))


def write_projection(folder: Path, trained: Trained, codes: Codes) -> Path:
    """Writes what `read_projection` reads, projected_w.npz or projected_z.npz, and returns its path."""
    layers, c = codes.layers.cpu(), codes.c.cpu()
    if trained.has_styles:
        path = folder / "projected_w.npz"
        np.savez(path, w=layers.numpy())
    else:
        path = folder / "projected_z.npz"
        np.savez(path, z=layers.flatten(1).numpy(), c=c.numpy())
    return path


def read_projection(path: Path, trained: Trained) -> Codes:
    """The codes in a file of `project`: `w` [N, num_ws, w_dim], or `z` [N, z_dim] and `c` [N, c_dim].

    Raises:
        ValueError: The file is damaged, or holds nothing for this generator.
    """
    G = trained.G
    shapes = {"w": (G.num_ws, G.w_dim)} if trained.has_styles else {"z": (G.z_dim,), "c": (G.c_dim,)}
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in shapes if name in file}
    except (ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"--projected-w: {path} is not an .npz file of arrays ({error})") from error
    for name, shape in shapes.items():
        if name not in found:
            raise ValueError(f"--projected-w: {path} has no array {name}, which this {trained.family} needs")
        array = found[name]
        if array.shape[1:] != shape or len(array) == 0 or array.dtype.kind != "f" or not np.isfinite(array).all():
            expected = ", ".join(map(str, ("N", *shape)))
            got = f"{array.dtype} {list(array.shape)}"
            raise ValueError(f"--projected-w: {name} must be finite numbers [{expected}], got {got} in {path}")
    tensors = {name: torch.from_numpy(array).float().to(trained.device) for name, array in found.items()}
    if trained.has_styles:
        return Codes(tensors["w"], torch.zeros(len(tensors["w"]), G.c_dim, device=trained.device))
    return Codes(tensors["z"].unflatten(1, (trained.num_layers, -1)), tensors["c"])


def _nearest(
    trained: Trained, embed: Embedding, wanted: Tensor, c: Tensor | None, report: Callable[[str, int, int], None]
) -> tuple[Tensor, Tensor]:
    """Of random latents, with the label given or one each, that of the nearest image: z [1, z_dim], c [1, c_dim]."""
    z = torch.randn(CANDIDATES, trained.G.z_dim).to(trained.device)
    cs = trained.labels(None, CANDIDATES) if c is None else c.expand(CANDIDATES, -1)
    distances = []
    for i in range(CANDIDATES):
        image = trained.draw(trained.codes(z[i : i + 1], cs[i : i + 1]))  # [1, C, H, W]
        distances.append((embed(image) - wanted).square().sum())
        report("samples", i + 1, CANDIDATES)
    best = int(torch.stack(distances).argmin())
    return z[best : best + 1], cs[best : best + 1]


def _statistics(trained: Trained, c: Tensor) -> tuple[Tensor, float]:
    """Of w with a label: its mean [1, w_dim] and the root of its mean squared distance from there; else those of z."""
    z = torch.randn(SAMPLES, trained.G.z_dim).to(trained.device)
    if trained.has_styles:
        z = torch.cat([trained.codes(part, c.expand(len(part), -1)).layers[:, 0] for part in z.split(1000)])
    mean = z.mean(0, keepdim=True)
    return mean, float((z - mean).square().sum(1).mean().sqrt())


@contextmanager
def _free_noise(trained: Trained) -> Iterator[list[Tensor]]:
    """The generator's constant noise, drawn anew and to be optimised; afterwards it is what it was."""
    noises = [buffer for name, buffer in trained.G.named_buffers() if name.endswith("noise_const")]
    before = [noise.clone() for noise in noises]
    with torch.no_grad():
        for noise in noises:
            noise.normal_()
    try:
        yield [noise.requires_grad_(True) for noise in noises]
    finally:
        for noise, old in zip(noises, before, strict=True):
            noise.requires_grad_(False).copy_(old)
