"""One function against another: value, gradient and second gradient, over random arguments."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from typing import Any

import torch


def signature(function: Callable) -> str:
    """`x, b=None, dim=1`: names and defaults, without types; numbers to four digits."""
    shown = []
    for p in inspect.signature(function).parameters.values():
        star = {p.VAR_KEYWORD: "**", p.VAR_POSITIONAL: "*"}.get(p.kind, "")
        default = f"{p.default:.4g}" if isinstance(p.default, float) else repr(p.default)
        shown.append(f"{star}{p.name}" + ("" if p.default is p.empty else f"={default}"))
    return ", ".join(shown)


def derivatives(function: Callable, tensors: dict[str, Any], options: dict[str, Any]) -> list[torch.Tensor]:
    """The result, its gradients, and the gradients of those, along fixed random directions."""
    generator = torch.Generator().manual_seed(0)
    inputs = {k: t.clone().requires_grad_(t.dtype == torch.float64) for k, t in tensors.items()}
    wrt = [t for t in inputs.values() if t.requires_grad]
    y = function(**inputs, **options)
    direction = torch.randn(y.shape, generator=generator, dtype=y.dtype).requires_grad_()
    first = torch.autograd.grad(y, wrt, direction, create_graph=True)
    loss = sum((g * torch.randn(g.shape, generator=generator, dtype=g.dtype)).sum() for g in first)
    second = torch.autograd.grad(loss, [direction, *wrt], allow_unused=True)
    return [t.detach() for t in (y, *first, *(g for g in second if g is not None and g.any()))]


def assert_same(ours: Callable, theirs: Callable, tensors: dict[str, Any], options: dict[str, Any]) -> None:
    actual, expected = derivatives(ours, tensors, options), derivatives(theirs, tensors, options)
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-9, atol=1e-10, msg=lambda m: f"{options}: {m}")


class Draw(random.Random):
    """Random arguments of image ops."""

    def image(self, n: int = 0, c: int = 0, least: int = 4) -> torch.Tensor:
        n, c = n or self.randint(1, 3), c or self.randint(1, 4)
        return self.tensor(n, c, self.randint(least, 8), self.randint(least, 8))

    def tensor(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(self.randrange(10**6)), dtype=torch.float64)

    def filter(self) -> torch.Tensor | None:
        """Asymmetric, so that a flip shows."""
        kind = self.choice(("none", "1-D", "2-D", "2-D"))
        if kind == "none":
            return None
        shape = [self.randint(1, 6)] if kind == "1-D" else [self.randint(1, 6), self.randint(1, 6)]
        return self.tensor(*shape).float()

    def padding(self, least: int = 0) -> Any:
        draw = lambda: self.randint(least, least + 3)  # noqa: E731
        return self.choice((draw(), [draw(), draw()], (draw(), draw(), draw(), draw())))

    def scale(self) -> Any:
        return self.choice((1, 2, 3, [2, 1], (1, 2)))
