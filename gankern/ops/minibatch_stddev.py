"""minibatch_stddev: how much the samples of a batch differ, as an extra channel for the discriminator."""

from __future__ import annotations

from typing import Any

import torch

from gankern import checks
from gankern.reference import minibatch_stddev as reference


def minibatch_stddev(x: torch.Tensor, group_size: int | None = 4, num_channels: int = 1) -> torch.Tensor:
    """Appends to x the standard deviation of its features over groups of samples.

    y[f] = mean over the channels of f and all pixels of sqrt(var over the group + 1e-8), the same for each pixel
    and each member of a group. Sample i belongs to group i mod (N / group_size).

    Args:
        x: Features [N, C, H, W]; float64, float32, bfloat16 or float16, any strides.
        group_size: Samples per group; a batch smaller than that is one group. None takes the whole batch.
        num_channels: Channels to append, F; each sums up C / F neighbouring channels of x.

    Returns:
        Tensor [N, C + F, H, W] of the dtype and memory format of x.

    Raises:
        TypeError: x is not a floating-point tensor of a dtype named above.
        ValueError: the group size does not divide N, or the number of channels does not divide C.

    Gradients: x, to any order.
    Backends: eager. Arithmetic in float32 for 16-bit types.
    Source: Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018,
        section 3; in groups as in Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020.
    """
    group_size = _check(x, group_size, num_channels)
    y = reference.minibatch_stddev(x, group_size, num_channels)
    channels_last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return y.contiguous(memory_format=torch.channels_last) if channels_last else y


def _check(x: Any, group_size: Any, num_channels: Any) -> int:
    """Returns the group size that applies to this batch."""
    op = "minibatch_stddev"
    checks.check_image(op, x)
    n, c = x.shape[:2]
    if group_size is not None and (not isinstance(group_size, int) or group_size < 1):
        raise checks.bad_value(op, "group_size", "be None or an integer of at least 1", repr(group_size))
    if not isinstance(num_channels, int) or num_channels < 1 or c % num_channels != 0:
        expected = f"be an integer that divides C = {c} (x is {list(x.shape)})"
        raise checks.bad_value(op, "num_channels", expected, repr(num_channels))
    group_size = n if group_size is None else min(group_size, n)
    if n == 0:
        return 1
    if n % group_size != 0:
        raise checks.bad_value(op, "group_size", f"divide N = {n} (x is {list(x.shape)})", group_size)
    return group_size
