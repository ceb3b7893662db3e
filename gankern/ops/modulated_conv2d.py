"""modulated_conv2d: the convolution of StyleGAN2, its weights scaled per sample, with the tail of its layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from gankern import checks
from gankern.ops.conv2d_resample import conv2d_resample
from gankern.ops.squared_norms import squared_norms
from gankern.ops.styled_bias_act import checked_tail, styled_bias_act
from gankern.ops.styled_conv2d import fits, styled_conv2d


def modulated_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    styles: torch.Tensor,
    noise: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int | Sequence[int] = 0,
    resample_filter: torch.Tensor | None = None,
    demodulate: bool = True,
    flip_weight: bool = True,
    fused_modconv: bool | None = None,
    *,
    input_gain: torch.Tensor | None = None,
    noise_strength: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    precise: bool = False,
    backend: str | None = None,
) -> torch.Tensor:
    """Convolves every sample with weights scaled by its styles, then adds noise and bias and applies an activation.

    w'[n, o, i] = weight[o, i] * styles[n, i]; w'' = w' / sqrt(sum over i and pixels of w'^2 + 1e-8) if demodulate;
    y = bias_act(conv2d_resample(x, w'') + noise_strength * noise, bias, act, alpha, gain, clamp).

    Args:
        x: Input [N, I, H, W]; float64, float32, bfloat16 or float16, contiguous or channels_last.
        weight: Weight [O, I, k, k], of the dtype of x or float32; cast to that of x for the convolution.
        styles: Scales of the input channels [N, I], of the dtype of x or float32.
        noise: Added to the result of the convolution: [H, W], [1, 1, H, W] or [N, 1, H, W] of the output's size.
        up, down, padding, flip_weight: As in `conv2d_resample`.
        resample_filter: Filter from `setup_filter` for up and down, or None.
        demodulate: Whether each output channel's weights are scaled to unit norm, per sample.
        fused_modconv: True convolves with per-sample weights, False scales x and the result around one convolution
            with the common weights. Equal but for rounding; None chooses the faster.
        input_gain: Factor of x that demodulation ignores: [], [I] or [N, I]; None for 1.
        noise_strength: Factor of the noise, a scalar tensor [] or one per channel [O]; None for 1.
        bias, act, alpha, gain, clamp: As `b` and the rest in `bias_act`; nothing is done by default.
        precise: As in `conv2d`.
        backend: 'native', 'triton' or 'eager' of the ops it is made of; None chooses.

    Returns:
        Tensor [N, O, H * up / down, W * up / down] for padding (k - 1) / 2, of the dtype and memory format of x.

    Raises:
        TypeError: a tensor is not of a dtype named above.
        ValueError: a shape does not fit, or a number is out of range.

    Gradients: x, weight, styles, input_gain, noise, noise_strength and bias, to any order.
    Backends: those of `conv2d`, `upfirdn2d` and `styled_bias_act`: one pass scales x, one the result, which adds noise
        and bias and activates as it goes. On the CPU both are inside the convolution, if it is 3x3 and large enough.
        In float16 and demodulated, weight and styles are first scaled to magnitude 1, which changes nothing else and
        keeps the sums from overflowing.
    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, section 2.2, equations 1 to 3;
        Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020, appendix D (float16);
        Karras et al., "Alias-Free Generative Adversarial Networks", 2021, section 3, configuration D (input_gain).
    """
    _check(x, weight, styles, input_gain)
    dtype = torch.promote_types(torch.promote_types(weight.dtype, styles.dtype), torch.float32)
    weight, styles = weight.to(dtype), styles.to(dtype)
    if demodulate and x.dtype == torch.float16:
        weight, styles = _normalize(weight, styles)
    dcoefs = _demodulation(weight, styles, backend) if demodulate else None  # [N, O]
    styles = styles if input_gain is None else styles * input_gain.to(dtype)  # [N, I]
    plain = not fused_modconv and not precise and flip_weight and up == down == 1
    if plain and weight.shape[2:] == (3, 3) and isinstance(padding, int) and 0 <= padding <= 2:
        shape = (x.shape[0], weight.shape[0], x.shape[2] + 2 * padding - 2, x.shape[3] + 2 * padding - 2)
        _check_noise(noise, shape)
        pads, factors = [padding, padding], (noise, noise_strength, bias)
        numbers = checked_tail(x, shape, dcoefs, *factors, act, alpha, gain, clamp)
        if fits(x, weight, pads, act, *numbers[:2], noise_strength, backend):
            return styled_conv2d(x, weight, styles, dcoefs, *factors, pads, act, *numbers)
    if fused_modconv is None:
        fused_modconv = _prefers_per_sample_weights(x, weight, up, down, padding)
    resample = (resample_filter, up, down, padding)
    options: dict[str, Any] = {"flip_weight": flip_weight, "precise": precise, "backend": backend}
    tail: dict[str, Any] = {"act": act, "alpha": alpha, "gain": gain, "clamp": clamp, "backend": backend}
    if fused_modconv and x.shape[0] > 0:
        w = weight * styles[:, None, :, None, None]  # [N, O, I, k, k]
        w = w if dcoefs is None else w * dcoefs[:, :, None, None, None]  # [N, O, I, k, k]
        x = _convolve_per_sample(x, w.to(x.dtype), *resample, options)  # [N, O, H, W]
        dcoefs = None
    else:
        x = styled_bias_act(x, styles.to(torch.promote_types(x.dtype, torch.float32)), backend=backend)  # [N, I, H, W]
        x = conv2d_resample(x, weight.to(x.dtype), *resample, **options)  # [N, O, H, W]
    _check_noise(noise, x.shape)
    return styled_bias_act(x, dcoefs, noise, noise_strength, bias, **tail)


def _demodulation(weight: torch.Tensor, styles: torch.Tensor, backend: str | None) -> torch.Tensor:
    """One over the norm of each output channel's modulated weights: the sum over pixels does not depend on n."""
    if weight.device.type == "cpu" and weight.is_contiguous():
        energy = squared_norms(weight.flatten(2).flatten(0, 1), backend=backend).view(weight.shape[:2])  # [O, I]
    else:
        energy = weight.square().sum(dim=[2, 3])  # [O, I]
    energy = styles.square() @ energy.t()  # [N, O]
    return (energy + 1e-8).rsqrt()


def _normalize(weight: torch.Tensor, styles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both to magnitude 1. Demodulation undoes it, in the gradients too, so that the divisors can be constants."""
    fan_in = weight[0].numel()
    largest = weight.detach().abs().amax(dim=[1, 2, 3], keepdim=True).clamp_min(1e-8)  # [O, 1, 1, 1]
    weight = weight / (largest * math.sqrt(fan_in))  # [O, I, k, k]
    largest = styles.detach().abs().amax(dim=1, keepdim=True).clamp_min(1e-8)  # [N, 1]
    return weight, styles / largest


def _prefers_per_sample_weights(x: torch.Tensor, weight: torch.Tensor, up: int, down: int, padding: Any) -> bool:
    """Of a 1x1 convolution, where N weights are fewer numbers than x. Larger kernels run slower as a grouped one."""
    return _is_matmul(weight, up, down, padding) and weight.shape[0] < x.shape[2] * x.shape[3]


def _is_matmul(weight: torch.Tensor, up: int, down: int, padding: Any) -> bool:
    return weight.shape[-2:] == (1, 1) and up == 1 and down == 1 and padding == 0


def _convolve_per_sample(
    x: torch.Tensor,
    w: torch.Tensor,
    resample_filter: torch.Tensor | None,
    up: int,
    down: int,
    padding: int | Sequence[int],
    options: dict[str, Any],
) -> torch.Tensor:
    """Sample n convolved with w[n]: a batched matrix product for 1x1, else one convolution with N groups."""
    n, o, i, kh, kw = w.shape
    h, width = x.shape[2:]
    channels_last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    if _is_matmul(w, up, down, padding):
        w = w.reshape(n, o, i)  # [N, O, I]
        if not channels_last:
            return torch.bmm(w, x.reshape(n, i, h * width)).reshape(n, o, h, width)
        pixels = x.permute(0, 2, 3, 1).reshape(n, h * width, i)  # [N, H * W, I]
        pixels = torch.bmm(pixels, w.transpose(1, 2))  # [N, H * W, O]
        return pixels.reshape(n, h, width, o).permute(0, 3, 1, 2)  # [N, O, H, W]
    x = x.reshape(1, n * i, h, width)  # [1, N * I, H, W]
    w = w.reshape(n * o, i, kh, kw)  # [N * O, I, k, k]
    x = conv2d_resample(x, w, resample_filter, up, down, padding, groups=n, **options)
    x = x.reshape(n, o, *x.shape[2:])  # [N, O, H, W]
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


def _check(x: Any, weight: Any, styles: Any, input_gain: Any) -> None:
    """What conv2d_resample and bias_act do not check."""
    op = "modulated_conv2d"
    checks.check_image(op, x)
    for name, tensor in (("weight", weight), ("styles", styles)):
        checks.check_floating(op, name, tensor)
        if tensor.dtype not in (x.dtype, torch.float32):
            raise checks.bad_type(op, name, f"be of the dtype of x, {x.dtype}, or float32", tensor.dtype)
        checks.check_same_device(op, name, tensor, x)
    n, i = x.shape[:2]
    if weight.ndim != 4 or weight.shape[1] != i or 0 in weight.shape:
        expected = f"have shape [O, I, k, k] with I = {i}"
        raise checks.bad_value(op, "weight", expected, f"{list(weight.shape)} (x is {list(x.shape)})")
    if styles.shape != (n, i):
        expected = f"have shape [N, I] = [{n}, {i}]"
        raise checks.bad_value(op, "styles", expected, f"{list(styles.shape)} (x is {list(x.shape)})")
    if input_gain is None:
        return
    checks.check_floating(op, "input_gain", input_gain)
    checks.check_same_device(op, "input_gain", input_gain, x)
    if not checks.has_shape(input_gain, (), (1,), (i,), (1, i), (n, 1), (n, i)):
        expected = f"have shape [], [I] or [N, I] = [{n}, {i}]"
        raise checks.bad_value(op, "input_gain", expected, f"{list(input_gain.shape)} (x is {list(x.shape)})")


def _check_noise(noise: Any, shape: Sequence[int]) -> None:
    """Against the size of the result, which is known only now; the name is the caller's."""
    if noise is None:
        return
    op = "modulated_conv2d"
    checks.check_floating(op, "noise", noise)
    n, _, h, w = shape
    if not checks.has_shape(noise, (h, w), (1, 1, h, w), (n, 1, h, w)):
        expected = f"have shape [H, W], [1, 1, H, W] or [N, 1, H, W] with N, H, W = {n}, {h}, {w}"
        raise checks.bad_value(op, "noise", expected, list(noise.shape))
