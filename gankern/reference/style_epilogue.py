"""style_epilogue in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from gankern.reference.adain import adain

# Activations that are straight on both sides of zero, and their slope below it.
activations: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "linear": lambda u, alpha: u,
    "relu": lambda u, alpha: F.relu(u),
    "lrelu": lambda u, alpha: F.leaky_relu(u, alpha),
}


def style_epilogue(
    x: torch.Tensor,
    noise: torch.Tensor | None,
    strength: torch.Tensor | None,
    b: torch.Tensor | None,
    scale: torch.Tensor | None,
    shift: torch.Tensor | None,
    act: str,
    alpha: float,
    gain: float,
    eps: float,
) -> torch.Tensor:
    """y = adain(gain * act(x + strength * noise + b), scale, shift); as in `gankern.style_epilogue`, all given.

    Args:
        noise: [1 or N, 1, H, W].
        strength: [] or [C].
    """
    if noise is not None:
        noise = noise.to(x.dtype)
        x = x + (noise if strength is None else noise * strength.to(x.dtype).reshape(-1, 1, 1))
    if b is not None:
        x = x + b.to(x.dtype).reshape(-1, 1, 1)
    x = activations[act](x, alpha)
    if gain != 1:
        x = x * gain
    return adain(x, scale, shift, eps)


def style_epilogue_backward_backward(
    ddx: torch.Tensor,
    ddscale: torch.Tensor | None,
    ddshift: torch.Tensor | None,
    dy: torch.Tensor,
    x: torch.Tensor,
    noise: torch.Tensor | None,
    strength: torch.Tensor | None,
    b: torch.Tensor | None,
    scale: torch.Tensor | None,
    alpha: float,
    gain: float,
    eps: float,
    sums: bool,
) -> tuple[torch.Tensor, ...]:
    """The gradients of <ddx, dx> + <ddscale, dscale> + <ddshift, dshift> to dy, x and scale, by autograd.

    Here x stands for x + strength * noise + b. With `sums` also the sums over the pixels [N, C] of the gradient to x,
    and of its product with the noise; without, tensors [0].
    """
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    zeros = x.new_zeros(x.shape[:2], dtype=dtype, requires_grad=True)
    scale = zeros + 1 if scale is None else scale
    y = style_epilogue(x, noise, strength, b, scale, zeros, "lrelu", alpha, gain, eps)
    first = torch.autograd.grad(y, (x, scale, zeros), dy, create_graph=True)
    pairs = [(d, dd) for d, dd in zip(first, (ddx, ddscale, ddshift), strict=True) if dd is not None]
    product = torch.stack([(d.to(dtype) * dd.to(dtype)).sum() for d, dd in pairs]).sum()
    ddy, grad_x, grad_scale = torch.autograd.grad(product, (dy, x, scale), create_graph=True)
    empty = x.new_empty([0], dtype=dtype)
    total = grad_x.to(dtype).sum([2, 3]) if sums else empty
    noise_sum = (grad_x.to(dtype) * noise).sum([2, 3]) if sums and noise is not None else empty
    return ddy, grad_x, grad_scale, total, noise_sum
