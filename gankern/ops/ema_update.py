"""ema_update: moves the exponential moving average of a whole network in a few launches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gankern import checks

Source = torch.nn.Module | Sequence[torch.Tensor]


@torch.no_grad()
def ema_update(dst: Source, src: Source, beta: float | torch.Tensor, *, buffers: str = "copy") -> None:
    """Moves dst towards src, in place: dst = beta * dst + (1 - beta) * src.

    Args:
        dst: The average: a list of tensors, or a module, whose parameters are averaged.
        src: What is averaged: a list of tensors of the same shapes, or a module like dst. The dtypes may differ.
        beta: Weight of the old average, in [0, 1]: a number, or a tensor of one element on the device of dst, which is
            never read by the host, so that a captured CUDA graph follows it.
        buffers: Of modules: 'copy' copies all of them (StyleGAN), 'lerp' averages those of floating point and copies
            the others (BigGAN-PyTorch, which averages the whole state dict).

    Raises:
        TypeError: dst and src are not both modules or both lists, beta is neither a number nor such a tensor.
        ValueError: the numbers or shapes of the tensors differ, beta is not in [0, 1], `buffers` is unknown.

    Gradients: none.
    Backends: eager, as torch._foreach operations: limited by memory.
    Source: Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018,
        section 5 (the average of the generator's weights).
    """
    op = "ema_update"
    if buffers not in ("copy", "lerp"):
        raise checks.bad_value(op, "buffers", "be 'copy' or 'lerp'", repr(buffers))
    if isinstance(dst, torch.nn.Module) and isinstance(src, torch.nn.Module):
        states = list(dst.buffers()), list(src.buffers())
        _check(op, *states, beta)
        averaged = [buffers == "lerp" and d.is_floating_point() for d in states[0]]
        copied = [pair for pair, chosen in zip(zip(*states, strict=True), averaged, strict=True) if not chosen]
        if copied:
            torch._foreach_copy_([d for d, _ in copied], [s for _, s in copied])
        moved = [[t for t, chosen in zip(state, averaged, strict=True) if chosen] for state in states]
        dst, src = [*dst.parameters(), *moved[0]], [*src.parameters(), *moved[1]]
    if isinstance(dst, torch.nn.Module) or isinstance(src, torch.nn.Module):
        expected = f"be a module or a list as dst, a {type(dst).__name__}, is"
        raise checks.bad_type(op, "src", expected, type(src).__name__)
    _check(op, dst, src, beta)
    if len(dst) > 0:
        _move(list(dst), [s.to(d.dtype) for d, s in zip(dst, src, strict=True)], beta)


def _move(dst: list[torch.Tensor], src: list[torch.Tensor], beta: float | torch.Tensor) -> None:
    if not isinstance(beta, torch.Tensor):
        torch._foreach_lerp_(dst, src, 1 - float(beta))
        return
    torch._foreach_sub_(dst, src)  # a lerp by a tensor would read it on the host
    torch._foreach_mul_(dst, beta.reshape([]))
    torch._foreach_add_(dst, src)


def _check(op: str, dst: Any, src: Any, beta: Any) -> None:
    if isinstance(beta, torch.Tensor):
        if beta.numel() != 1:
            raise checks.bad_value(op, "beta", "be a number or have one element", list(beta.shape))
    else:
        checks.check_number(op, "beta", beta)
        if not 0 <= beta <= 1:
            raise checks.bad_value(op, "beta", "be in [0, 1]", beta)
    checks.check_tensors(op, "dst", dst)
    checks.check_tensors(op, "src", src)
    if len(dst) != len(src):
        raise checks.bad_value(op, "src", f"have as many tensors as dst, {len(dst)}", len(src))
    for i, (average, value) in enumerate(zip(dst, src, strict=True)):
        if average.device != value.device:
            raise checks.bad_value(op, f"src[{i}]", f"be on the device of dst[{i}], {average.device}", value.device)
        if average.shape != value.shape:
            raise checks.bad_value(
                op, f"src[{i}]", f"have the shape of dst[{i}], {list(average.shape)}", list(value.shape)
            )
