"""SWD: sliced Wasserstein distance between the local patches of two sets of images, level by level of a pyramid.

It needs no network. Each level tells of one scale: large at the finest level means wrong detail, at the coarsest wrong
structure.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import gankern

from ..ranks import gather_rows, rank, world_size

NUM_IMAGES = 16384
PATCH = 7
PATCHES_PER_IMAGE = 128
REPEATS, DIRECTIONS = 4, 128
CHUNK = 16  # directions at a time: 16 of 16,384 images are 134 MB
COARSEST = 16  # width of the last level
BINOMIAL = (1, 4, 6, 4, 1)

Report = Callable[[str, int, int], None]  # what is being done, how much of it is done, how much there is


class Patches:
    """The patches of one set of images, collected batch by batch: 7x7 pixels of every level of a Laplacian pyramid.

    Where the patches of image number i lie depends on `seed` and i alone. An image of C channels costs
    C * 25 KB per level (three channels, 1024 pixels, 16,384 images: 8.6 GB), kept on the CPU.

    Args:
        num_images: Images that there will be, over all ranks.
        resolution: (height, width); both can be halved until the smaller one is 16.
        channels: 1 or 3; grey counts as three equal channels.
        seed: Of the patches' places. Two sets to be compared should have different ones.

    Raises:
        ValueError: The images are too small, or have another number of channels.

    Source: Karras et al., "Progressive Growing of GANs", 2018, section 5, with the published constants.
    """

    def __init__(self, num_images: int, resolution: tuple[int, int], channels: int = 3, seed: int = 0):
        if channels not in (1, 3):
            raise ValueError(f"swd: channels must be 1 or 3, got {channels}")
        self.channels = channels
        self.sizes = level_sizes(resolution)
        generator = torch.Generator().manual_seed(seed)
        self.corners = [_random_corners(num_images, size, generator) for size in self.sizes]  # each [N, 128, 2]
        self.levels: list[list[Tensor]] = [[] for _ in self.sizes]

    def add(self, first: int, images: Tensor) -> None:
        """Adds the images number `first` to first + n - 1.

        Args:
            images: uint8 [n, C, H, W].

        Raises:
            ValueError: Another size or number of channels than announced, or too many images.
        """
        expected = (self.channels, *self.sizes[0])
        if tuple(images.shape[1:]) != expected:
            raise ValueError(f"swd: images must be [n, {', '.join(map(str, expected))}], got {list(images.shape)}")
        if first + len(images) > len(self.corners[0]):
            raise ValueError(f"swd: expected {len(self.corners[0])} images, got number {first + len(images)}")
        pyramid = laplacian_pyramid(images.to(torch.float32), len(self.sizes))
        for k, level in enumerate(pyramid):
            corners = self.corners[k][first : first + len(images)].to(level.device, torch.int64)
            self.levels[k].append(_cut(level, corners).cpu())

    def standardised(self, level: int, device: torch.device) -> Tensor:
        """This rank's patches of a level, each channel with mean 0 and deviation 1 over all ranks: [n, C * 49]."""
        parts = self.levels[level] or [torch.empty(0, self.channels, PATCH * PATCH)]
        patches = torch.cat(parts).to(device)  # [n, C, 49]
        sums = gather_rows(_sums(patches)[None]).sum(0)  # [3, C]: count, sum, sum of squares
        mean = sums[1] / sums[0]  # [C]
        std = (sums[2] / sums[0] - mean.square()).clamp_min(0).sqrt()
        mean, std = mean.float(), std.clamp_min(torch.finfo(torch.float32).tiny).float()
        return ((patches - mean[:, None]) / std[:, None]).flatten(1)


def swd(
    real: Patches,
    fake: Patches,
    seed: int = 0,
    device: torch.device | str = "cpu",
    report: Report = lambda what, done, total: None,
) -> dict[str, float]:
    """Sliced Wasserstein distance per level: mean |sorted projections of real - of fake| on random directions, x 1000.

    Args:
        real: Patches of one set.
        fake: Patches of the other, as many.
        seed: Of the directions.
        device: Where to project and sort, a level at a time.
        report: Told how far it is.

    Returns:
        {"swd_1024": ..., ..., "swd_16": ..., "swd": their mean}; the number is the level's width.

    Raises:
        ValueError: The sets do not have the same number of patches of the same shape.
    """
    if (real.channels, real.sizes) != (fake.channels, fake.sizes):
        got = f"{fake.channels} channels of {fake.sizes[0]}, {real.channels} of {real.sizes[0]}"
        raise ValueError(f"swd: both sets must be of one shape, got {got}")
    device = torch.device(device)
    generator = torch.Generator().manual_seed(seed)
    result = {}
    for k, size in enumerate(real.sizes):
        a, b = real.standardised(k, device), fake.standardised(k, device)  # [n, C * 49]
        distances = []
        for repeat in range(REPEATS):
            directions = torch.randn(3, PATCH * PATCH, DIRECTIONS, generator=generator)
            directions /= directions.square().sum((0, 1)).sqrt()
            if real.channels == 1:
                directions = directions.sum(0, keepdim=True)  # the projection of three equal channels
            chunks = directions.flatten(0, 1).to(device).split(CHUNK, 1)
            distances += [_distances(a, b, columns) for columns in chunks]
            report("SWD", k * REPEATS + repeat + 1, len(real.sizes) * REPEATS)
        result[f"swd_{size[1]}"] = torch.cat(distances).double().mean().item() * 1e3
    return {**result, "swd": float(np.mean(list(result.values())))}


def level_sizes(resolution: tuple[int, int]) -> list[tuple[int, int]]:
    """(height, width) of each level, from the images' own down to 16 on the smaller side."""
    height, width = resolution
    sizes = []
    while min(height, width) >= COARSEST:
        sizes.append((height, width))
        if min(height, width) < 2 * COARSEST:
            break
        if height % 2 or width % 2:
            raise ValueError(f"swd: resolution must halve down to {COARSEST}, got {resolution[0]}x{resolution[1]}")
        height, width = height // 2, width // 2
    if not sizes:
        raise ValueError(f"swd: images must be at least {COARSEST}x{COARSEST}, got {resolution[0]}x{resolution[1]}")
    return sizes


def laplacian_pyramid(x: Tensor, num_levels: int) -> list[Tensor]:
    """Differences x - up(down(x)) at each size, and what is left at the last: float [N, C, H / 2^k, W / 2^k]."""
    levels = []
    for _ in range(num_levels - 1):
        smaller = pyramid_down(x)  # [N, C, H / 2, W / 2]
        levels.append(x - pyramid_up(smaller))
        x = smaller
    return [*levels, x]


def pyramid_down(x: Tensor) -> Tensor:
    """Binomial 5x5 filter with mirrored borders, then every second pixel: [N, C, H, W] -> [N, C, H / 2, W / 2]."""
    x = F.pad(x, (2, 2, 2, 2), mode="reflect")
    return gankern.upfirdn2d(x, _binomial(x.device), down=2)


def pyramid_up(x: Tensor) -> Tensor:
    """Zeros between the pixels, then the filter x 4: [N, C, H, W] -> [N, C, 2 H, 2 W].

    A border mirrored after the zeros went in, is one mirrored on the left and one repeated on the right before.
    """
    x = F.pad(x, (1, 0, 1, 0), mode="reflect")
    x = F.pad(x, (0, 1, 0, 1), mode="replicate")  # [N, C, H + 2, W + 2]
    return gankern.upfirdn2d(x, _binomial(x.device), up=2, gain=4)


def _binomial(device: torch.device) -> Tensor:
    return gankern.setup_filter(BINOMIAL, device=device)


def _random_corners(num_images: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Upper left corners (y, x): int16 [num_images, 128, 2]; a patch's centre is at most size - 4."""
    shape = [num_images, PATCHES_PER_IMAGE]
    axes = [torch.randint(n - PATCH + 1, shape, generator=generator, dtype=torch.int16) for n in size]
    return torch.stack(axes, 2)


def _cut(level: Tensor, corners: Tensor) -> Tensor:
    """Patches [n * 128, C, 49] of a level [n, C, H, W] at corners [n, 128, 2]."""
    windows = level.unfold(2, PATCH, 1).unfold(3, PATCH, 1)  # [n, C, H - 6, W - 6, 7, 7]
    image = torch.arange(len(level), device=level.device)[:, None]
    patches = windows[image, :, corners[..., 0], corners[..., 1]]  # [n, 128, C, 7, 7]
    return patches.reshape(-1, level.shape[1], PATCH * PATCH)


def _sums(patches: Tensor) -> Tensor:
    """Number, sum and sum of squares of each channel of [n, C, 49]: float64 [3, C]."""
    total = torch.zeros(3, patches.shape[1], dtype=torch.float64, device=patches.device)
    for part in patches.split(1 << 16):  # float64 of all of them would double the memory
        x = part.double()
        total[0] += x.shape[0] * x.shape[2]
        total[1] += x.sum((0, 2))
        total[2] += x.square().sum((0, 2))
    return total


def _distances(a: Tensor, b: Tensor, columns: Tensor) -> Tensor:
    """Mean |sorted a v - sorted b v| for the columns v [F, K]: [K]; the ranks share the sorting."""
    # the transposes save a copy: sorting wants each direction's values side by side
    projected = [gather_rows((columns.T @ x.T).T).T for x in (a, b)]  # [K, N]
    if projected[0].shape != projected[1].shape:
        got = f"{projected[0].shape[1]} and {projected[1].shape[1]}"
        raise ValueError(f"swd: both sets must have the same number of patches, got {got}")
    mine = slice(rank(), None, world_size())
    first, second = (_sort_rows(x[mine]) for x in projected)
    distances = first.sub_(second).abs_().mean(1)  # [K / ranks]
    return gather_rows(distances)


def _sort_rows(x: Tensor) -> Tensor:
    """Sorts each row. On the CPU by NumPy, whose vectorised sort is an order of magnitude faster than PyTorch's."""
    if x.device.type != "cpu":
        return x.sort(1).values
    rows = x.contiguous().numpy()
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(np.ndarray.sort, rows))
    return torch.from_numpy(rows)
