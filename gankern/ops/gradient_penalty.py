"""Gradient penalties: R1, R2, WGAN-GP and the path length, each per sample, differentiable in the parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from gankern import checks, library
from gankern.ops.squared_norms import squared_norms
from gankern.reference.conditional_batch_norm import all_reduce

Discriminator = Callable[..., torch.Tensor]


def r1_penalty(D: Discriminator, x: torch.Tensor, *args: Any) -> torch.Tensor:
    """Squared norm of the discriminator's gradient at each real sample: sum |d D(x) / d x|^2.

    Args:
        D: Discriminator; D(x, *args) are scores, one or more per sample, each of its own sample alone.
        x: Real samples [N, ...]. It is detached, unless it is a leaf that requires a gradient already.
        args: What else D takes, labels for example.

    Returns:
        Penalty per sample [N], float64 for float64, else float32; the usual loss is gamma / 2 times its mean.

    Raises:
        TypeError: x is not a floating-point tensor, D is not callable or does not return a tensor.
        ValueError: x has no dimension.
        RuntimeError: D(x) does not depend on x; or torch.compile compiled D, which cannot be differentiated twice.

    Gradients: to D's parameters, through the inner gradient, inside which gankern's ops compute no gradients of
        parameters (`inputs_only`).
    Backends: those of `squared_norms`.
    Source: Mescheder et al., "Which Training Methods for GANs do actually Converge?", 2018, equation 9.
    """
    return squared_norms(_input_gradient("r1_penalty", D, x, *args))


def r2_penalty(D: Discriminator, x: torch.Tensor, *args: Any) -> torch.Tensor:
    """`r1_penalty` at generated samples, of which it is no function: x is detached.

    Arguments, result, errors, gradients and backends are those of `r1_penalty`.

    Source: Mescheder et al., "Which Training Methods for GANs do actually Converge?", 2018, equation 10.
    """
    return squared_norms(_input_gradient("r2_penalty", D, x, *args))


def wgan_gp_penalty(
    D: Discriminator, real: torch.Tensor, fake: torch.Tensor, *args: Any, target: float = 1.0
) -> torch.Tensor:
    """Squared distance of the gradient's norm from its target, between real and generated samples.

    (|d D(x) / d x| - target)^2 at x = (1 - u) real + u fake, with u uniform in [0, 1) for each sample.

    Args:
        D: Discriminator; D(x, *args) are scores, one or more per sample, each of its own sample alone.
        real: Real samples [N, ...].
        fake: Generated samples of the same shape; like the real ones detached.
        args: What else D takes, labels for example.
        target: Norm that the gradient should have.

    Returns:
        Penalty per sample [N], float64 for float64, else float32; the usual loss is 10 times its mean, over target^2.

    Raises:
        TypeError: a tensor is not of a floating-point dtype, D is not callable or does not return a tensor.
        ValueError: the shapes or devices differ.
        RuntimeError: D(x) does not depend on x; or torch.compile compiled D, which cannot be differentiated twice.

    Gradients: to D's parameters, as in `r1_penalty`; zero where the norm is.
    Backends: those of `squared_norms`.
    Source: Gulrajani et al., "Improved Training of Wasserstein GANs", 2017, equation 3; the target: Karras et al.,
        "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018, appendix A.
    """
    op = "wgan_gp_penalty"
    checks.check_floating(op, "real", real)
    checks.check_floating(op, "fake", fake)
    checks.check_number(op, "target", target)
    if real.ndim == 0:
        raise checks.bad_value(op, "real", "have at least one dimension", "a scalar tensor")
    if real.shape != fake.shape:
        raise checks.bad_value(op, "fake", f"have the shape of real, {list(real.shape)}", list(fake.shape))
    if fake.device != real.device:
        raise checks.bad_value(op, "fake", f"be on the device of real, {real.device}", fake.device)
    place = torch.rand([real.shape[0], *(1,) * (real.ndim - 1)], dtype=real.dtype, device=real.device)
    x = torch.lerp(real.detach(), fake.detach().to(real.dtype), place)  # [N, ...]
    return (_norms(squared_norms(_input_gradient(op, D, x, *args))) - float(target)).square()


def path_length_penalty(
    img: torch.Tensor,
    ws: torch.Tensor,
    pl_mean: torch.Tensor,
    decay: float = 0.01,
    *,
    process_group: dist.ProcessGroup | None = None,
) -> torch.Tensor:
    """Squared distance of path lengths from their running mean, which moves on.

    A path length is |J_w^T y| with y ~ N(0, 1) / sqrt(H W), the root of its mean square over the layers' w.

    Args:
        img: Generated images [N, C, H, W].
        ws: The latents they were made from [N, num_ws, w_dim], part of their graph.
        pl_mean: Running mean [], updated in place.
        decay: Step of the running mean towards the batch's mean.
        process_group: Processes whose batches, all of one size, are one batch to that mean; every process of it must
            call, and differentiate. None for this process alone.

    Returns:
        Penalty per sample [N]: (length - mean)^2.

    Raises:
        TypeError: img, ws or pl_mean is not a floating-point tensor, or decay is not a number.
        ValueError: a tensor is not of the shape above, img or ws requires no gradient, decay is not in [0, 1].
        RuntimeError: img is not a function of ws.

    Gradients: to G's parameters, through the inner gradient, as in `r1_penalty`; also through the mean.
    Backends: those of `squared_norms`.
    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, section 3.2, equation 4.
    """
    op = "path_length_penalty"
    checks.check_floating(op, "img", img)
    checks.check_floating(op, "ws", ws)
    if img.ndim != 4:
        raise checks.bad_value(op, "img", "have 4 dimensions [N, C, H, W]", list(img.shape))
    if ws.ndim != 3 or ws.shape[0] != img.shape[0]:
        raise checks.bad_value(op, "ws", f"have shape [N = {img.shape[0]}, num_ws, w_dim]", list(ws.shape))
    checks.check_floating(op, "pl_mean", pl_mean)
    if pl_mean.ndim != 0:
        raise checks.bad_value(op, "pl_mean", "have no dimension", list(pl_mean.shape))
    if pl_mean.device != ws.device:
        raise checks.bad_value(op, "pl_mean", f"be on the device of ws, {ws.device}", pl_mean.device)
    checks.check_number(op, "decay", decay)
    if not 0 <= decay <= 1:
        raise checks.bad_value(op, "decay", "be in [0, 1]", decay)
    for name, tensor in (("img", img), ("ws", ws)):
        if not tensor.requires_grad:
            raise checks.bad_value(op, name, "require a gradient, img as a function of ws", "one that does not")
    noise = torch.randn_like(img) / math.sqrt(img.shape[2] * img.shape[3])  # [N, C, H, W]
    with library.inputs_only():
        (gradient,) = torch.autograd.grad((img * noise).sum(), ws, create_graph=True, allow_unused=True)
    if gradient is None:
        raise RuntimeError(f"gankern.{op}: img must be a function of ws, got one that is not")
    lengths = _norms(squared_norms(gradient) / ws.shape[1])  # [N]
    ranks = 1 if process_group is None else dist.get_world_size(process_group)
    of_batch = all_reduce(lengths.mean(), process_group) / ranks  # []
    mean = pl_mean.lerp(of_batch.to(pl_mean.dtype), decay)  # []
    pl_mean.copy_(mean.detach())
    return (lengths - mean).square()


def _norms(squares: torch.Tensor) -> torch.Tensor:
    """Their roots, with a gradient of zero at zero, where the root has none."""
    return squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt()


def _input_gradient(op: str, D: Discriminator, x: torch.Tensor, *args: Any) -> torch.Tensor:
    checks.check_floating(op, "x", x)
    if x.ndim == 0:
        raise checks.bad_value(op, "x", "have at least one dimension", "a scalar tensor")
    if not callable(D):
        raise checks.bad_type(op, "D", "be callable", type(D).__name__)
    if not torch.compiler.is_compiling() and _is_compiled(D):
        raise RuntimeError(
            f"gankern.{op}: D must not be compiled by torch.compile, whose modules cannot be differentiated twice; "
            "compile the loss instead, with its inner gradient in it (torch._dynamo.config.trace_autograd_ops = True)"
        )
    if not (x.is_leaf and x.requires_grad):
        x = x.detach().requires_grad_()
    scores = D(x, *args)
    checks.check_floating(op, "D(x)", scores)
    gradient = None
    if scores.requires_grad:
        with library.inputs_only():
            (gradient,) = torch.autograd.grad(scores.sum(), x, create_graph=True, allow_unused=True)
    if gradient is None:
        raise RuntimeError(f"gankern.{op}: D(x) must be a differentiable function of x, got one that is not")
    return gradient


def _is_compiled(D: Any) -> bool:
    """What torch.compile returned, or a module that it changed in place."""
    marks = ("_torchdynamo_orig_callable", "_orig_mod")
    return any(hasattr(D, mark) for mark in marks) or getattr(D, "_compiled_call_impl", None) is not None
