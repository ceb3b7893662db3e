"""sanitize_gradients: no NaN and no infinity reaches the optimiser."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from gankern import checks
from gankern.reference import sanitize_gradients as reference


@torch.no_grad()
def sanitize_gradients(
    gradients: torch.nn.Module | torch.Tensor | Iterable[torch.Tensor],
    nan: float = 0.0,
    posinf: float = 1e5,
    neginf: float = -1e5,
) -> None:
    """Replaces NaN and the infinities in gradients, in place.

    Args:
        gradients: A network or parameters, whose .grad is meant and may be None; or tensors, or one tensor, as a buffer
            that all gradients are views of: one launch.
        nan, posinf, neginf: What replaces NaN, +infinity and -infinity.

    Raises:
        TypeError: a gradient is not of floating point, or a number is not a number.
        ValueError: a number is NaN.

    Gradients: none.
    Backends: eager. On a GPU many gradients go through one flat copy, three launches for each dtype and device.
    Source: Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020 (the published training
        code's clean-up before each optimiser step).
    """
    op = "sanitize_gradients"
    for name, value in (("posinf", posinf), ("neginf", neginf), ("nan", nan)):
        checks.check_number(op, name, value)
    if isinstance(gradients, torch.nn.Module):
        gradients = gradients.parameters()
    elif isinstance(gradients, torch.Tensor):
        gradients = [gradients]
    if not isinstance(gradients, Iterable):
        expected = "be a module, a tensor or several tensors"
        raise checks.bad_type(op, "gradients", expected, type(gradients).__name__)
    found = [g.grad if isinstance(g, torch.nn.Parameter) else g for g in gradients]
    kinds: dict[tuple, list[torch.Tensor]] = {}
    for i, gradient in enumerate(found):
        if gradient is not None:
            checks.check_floating(op, f"gradients[{i}]", gradient)
            kinds.setdefault((gradient.dtype, gradient.device), []).append(gradient)
    for (_, device), tensors in kinds.items():
        if device.type == "cpu" or len(tensors) < 4:
            reference.sanitize_gradients(tensors, nan, posinf, neginf)
            continue
        flat = torch.cat([t.reshape(-1) for t in tensors])
        reference.sanitize_gradients([flat], nan, posinf, neginf)
        parts = flat.split([t.numel() for t in tensors])
        torch._foreach_copy_(tensors, [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)])
