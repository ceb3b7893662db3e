"""The pictures of a run: the sample grid, with one column per class, and the timeline of its first row."""

import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .images import ImageData, to_float, to_uint8
from .png import read_png, write_png
from .state import Generator

MAX_COLUMNS = 10
ROWS = 8
TIMELINE_ROWS = 12
TILE = 64  # smallest side of an image in a grid, in pixels
GAP = 4  # between images, in pixels


def tile(images: Tensor, columns: int) -> np.ndarray:
    """Lays images out row by row.

    Args:
        images: [N, C, H, W] in [-1, 1]; N a multiple of `columns`.
        columns: Images per row.

    Returns:
        uint8 [N / columns * H, columns * W, C].
    """
    n, channels, height, width = images.shape
    x = to_uint8(images).cpu().reshape(n // columns, columns, channels, height, width)
    x = x.permute(0, 3, 1, 4, 2)  # [rows, H, columns, W, C]
    return x.reshape(n // columns * height, columns * width, channels).numpy()


def present(images: Tensor) -> Tensor:
    """Enlarges small images [N, C, H, W] in [-1, 1] to `TILE`, and adds a dark gap."""
    return F.pad(enlarge(images, TILE), (0, GAP, 0, GAP), value=-0.6)


def enlarge(images: Tensor, width: int) -> Tensor:
    """Repeats the pixels of images [N, C, H, W] as often as they fit into a width."""
    factor = max(width // images.shape[-1], 1)
    return images.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)


def grid_columns(data: ImageData) -> int:
    """One column per class where there are few enough, else `MAX_COLUMNS`."""
    return min(data.num_classes or MAX_COLUMNS, MAX_COLUMNS)


def grid_inputs(data: ImageData, z_dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """The fixed latents z [N, z_dim] and labels c [N, c_dim] of a run's sample grid, on the CPU."""
    columns = grid_columns(data)
    z = torch.randn(ROWS * columns, z_dim, generator=torch.Generator().manual_seed(seed))
    if data.num_classes is None:
        return z, data.encode_labels(np.arange(len(z)) % len(data))
    return z, torch.eye(data.num_classes)[:columns].repeat(ROWS, 1)


@torch.no_grad()
def generate(G: Generator, z: Tensor, c: Tensor, truncation_psi: float = 1.0) -> Tensor:
    """Images [N, C, h, w] to look at: with constant noise, and truncated where the generator has styles to truncate.

    Raises:
        ValueError: `truncation_psi` is not 1 for a generator without styles.
    """
    if hasattr(G, "mapping"):
        return G.synthesis(G.mapping(z, c, truncation_psi=truncation_psi), noise_mode="const")
    if truncation_psi != 1:
        raise ValueError(f"truncation needs a generator with styles, got psi {truncation_psi} for {type(G).__name__}")
    return G(z, c)


@torch.no_grad()
def write_samples(path: Path, G_ema: Generator, z: Tensor, c: Tensor, columns: int) -> None:
    """Writes the sample grid of the averaged generator, a row at a time, with constant noise."""
    device = next(G_ema.parameters()).device
    rows = [
        generate(G_ema, zs.to(device), cs.to(device)) for zs, cs in zip(z.split(columns), c.split(columns), strict=True)
    ]
    write_png(path, tile(present(torch.cat(rows)), columns))


def write_reals(path: Path, data: ImageData) -> Path:
    """Writes a grid of real images in the layout of the sample grid; returns its path."""
    columns = grid_columns(data)
    indices = np.arange(ROWS * columns) % len(data)
    if data.num_classes is not None and data.labels is not None:
        of_class = [np.resize(np.flatnonzero(data.labels == k), ROWS) for k in range(columns)]
        indices = np.stack(of_class, axis=1).reshape(-1)  # [ROWS * columns]
    images = to_float(data.read(indices))
    write_png(path, tile(present(images), columns))
    return path


def sample_grids(run_dir: Path) -> list[Path]:
    """The run's sample grids, earliest first."""
    return sorted(
        run_dir.glob("fakes*.png"), key=lambda path: [int(number) for number in re.findall(r"\d+", path.name)]
    )


def write_timeline(run_dir: Path) -> Path | None:
    """Stacks the first row of the run's sample grids, earliest first, into timeline.png: one row per moment."""
    grids = sample_grids(run_dir)
    if not grids:
        return None
    chosen = np.unique(np.linspace(0, len(grids) - 1, TIMELINE_ROWS).round().astype(int))
    rows = []
    for k in chosen:
        grid = read_png(grids[k])
        row = grid[: len(grid) // ROWS]
        step = max(row.shape[0] // (2 * TILE), 1)
        rows.append(row[::step, ::step])
    width = max(row.shape[1] for row in rows)  # the images of a growing run become larger than a tile
    rows = [_enlarged(row, width) for row in rows]
    path = run_dir / "timeline.png"
    write_png(path, np.concatenate(rows))
    return path


def _enlarged(row: np.ndarray, width: int) -> np.ndarray:
    """Repeats the pixels of uint8 [H, W, C] until it is `width` wide, in proportion."""
    height = round(row.shape[0] * width / row.shape[1])
    y, x = np.arange(height) * row.shape[0] // height, np.arange(width) * row.shape[1] // width
    return row[y[:, None], x]
