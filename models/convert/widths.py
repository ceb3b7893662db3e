"""From the widths of a network's layers to the two numbers that published configurations give them by."""

from __future__ import annotations

from collections.abc import Mapping


def channel_base_of(what: str, widths: Mapping[int, int]) -> tuple[int, int]:
    """The (channel_base, channel_max) with min(channel_base // resolution, channel_max) channels at every resolution.

    Args:
        what: For the error.
        widths: Channels by resolution.

    Raises:
        ValueError: There are none.
    """
    if not widths:
        raise ValueError(f"{what} has no layers")
    base, most = widths[max(widths)] * max(widths), max(widths.values())
    for resolution, width in sorted(widths.items()):
        if width != min(base // resolution, most):
            expected = min(base // resolution, most)
            raise ValueError(f"{what} has {width} channels at {resolution}, expected {expected}: custom widths")
    return base, most
