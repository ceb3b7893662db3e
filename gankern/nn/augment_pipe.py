"""AugmentPipe: the random transforms of adaptive discriminator augmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from gankern import checks
from gankern.nn.augment_transforms import (
    SYM6,
    band_gains,
    cut_out,
    filter_bands,
    filter_bank,
    inverse_affine,
    recolour,
    warp,
)
from gankern.ops.upfirdn2d import setup_filter

_Strengths = dict[str, float]
_BLIT: _Strengths = {"xflip": 1, "rotate90": 1, "xint": 1}
_GEOM: _Strengths = {"scale": 1, "rotate": 1, "aniso": 1, "xfrac": 1}
_COLOR: _Strengths = {"brightness": 1, "contrast": 1, "lumaflip": 1, "hue": 1, "saturation": 1}
_FILTER: _Strengths = {"imgfilter": 1}
_NOISE: _Strengths = {"noise": 1}
_CUTOUT: _Strengths = {"cutout": 1}

# Arguments of AugmentPipe by the published names of its configurations.
AUGPIPES: dict[str, _Strengths] = {
    "blit": _BLIT,
    "geom": _GEOM,
    "color": _COLOR,
    "filter": _FILTER,
    "noise": _NOISE,
    "cutout": _CUTOUT,
    "bg": _BLIT | _GEOM,
    "bgc": _BLIT | _GEOM | _COLOR,
    "bgcf": _BLIT | _GEOM | _COLOR | _FILTER,
    "bgcfn": _BLIT | _GEOM | _COLOR | _FILTER | _NOISE,
    "bgcfnc": _BLIT | _GEOM | _COLOR | _FILTER | _NOISE | _CUTOUT,
}

# What happens to an image or not, each by itself, and the argument with its strength: a column of random numbers each.
_GATES = {name: name for name in ("xflip", "rotate90", "xint", "scale")}
_GATES |= {"before": "rotate", "after": "rotate", "aniso": "aniso", "xfrac": "xfrac"}
_GATES |= {name: name for name in ("brightness", "contrast", "lumaflip", "hue", "saturation")}
_GATES |= {f"band{i}": "imgfilter" for i in range(4)} | {"noise": "noise", "cutout": "cutout"}
# How much, in columns of uniform and of normal random numbers, and the gate of each. At 0 it changes nothing, so that a
# closed gate is a factor of 0.
_UNIFORM = {"xint_x": "xint", "xint_y": "xint", "before": "before", "after": "after", "hue": "hue"}
_NORMAL = {"scale": "scale", "aniso": "aniso", "xfrac_x": "xfrac", "xfrac_y": "xfrac", "brightness": "brightness"}
_NORMAL |= {"contrast": "contrast", "saturation": "saturation", "noise": "noise"}
_NORMAL |= {f"band{i}": f"band{i}" for i in range(4)}
# The part of the published draws that does something: flips by 0 or 1, turns by 0, 1, 2 or 3 quarters.
_EFFECTIVE = {"xflip": 1 / 2, "rotate90": 3 / 4, "lumaflip": 1 / 2}
_BAND_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)  # of natural images, the lowest band first


class AugmentPipe(torch.nn.Module):
    """Transforms each image at random: flips, turns, shifts, warps, colours, frequencies, noise, a hole.

    Every transform happens to an image with probability strength * p, independently, in this order:

    1. x-flip; 0 to 3 quarter turns; shift by whole pixels, U(-xint_max, xint_max) of the size.
    2. Scale by 2^N(0, scale_std^2); rotation by U(-pi, pi) rotate_max; stretch by 2^N(0, aniso_std^2) along x and its
       inverse along y; a second rotation, so that one or both happen with probability strength * p; shift by
       N(0, xfrac_std^2) of the size. With the first three one warp, by an orthogonal low pass and with reflection.
    3. Brightness + N(0, brightness_std^2); contrast * 2^N(0, contrast_std^2); luma flip; hue rotation by
       U(-pi, pi) hue_max; saturation * 2^N(0, saturation_std^2). One affine map of the channels.
    4. Four frequency bands, gains 2^N(0, imgfilter_std^2), each restoring the power of an average image.
    5. Noise of standard deviation |N(0, noise_std^2)|; a rectangle of cutout_size of each side made zero.

    `p` is a buffer that may change at any time and is never read by the host, nor is anything else: a call is a fixed
    sequence of kernels. It starts at 1. State dicts are those of the published code: p, Hz_geom, Hz_fbank.

    Images continue by reflection without end. The published code reflects once and shows zeros beyond, where an image
    is shrunk to less than a third or so; it reads the margin that it needs from the device.

    Args:
        xflip: Strength of the x-flip, usually 0 or 1, as all those without a suffix; 0 leaves a transform out.
        rotate90: Strength of quarter turns.
        xint: Strength of the shift by whole pixels.
        xint_max: Its range, as a part of the image's size.
        scale: Strength of the scale.
        rotate: Strength of the rotations.
        aniso: Strength of the stretch.
        xfrac: Strength of the shift by fractions of pixels.
        scale_std: Standard deviation of the scale's logarithm to base 2.
        rotate_max: Range of the rotations, 1 being all angles.
        aniso_std: Standard deviation of the stretch's logarithm to base 2.
        xfrac_std: Standard deviation of the shift, as a part of the image's size.
        brightness: Strength of the change of brightness.
        contrast: Strength of the change of contrast.
        lumaflip: Strength of the luma flip.
        hue: Strength of the rotation of hues.
        saturation: Strength of the change of saturation.
        brightness_std: Standard deviation of the brightness, in units of the image's values.
        contrast_std: Standard deviation of the contrast's logarithm to base 2.
        hue_max: Range of the hue's rotation, 1 being all angles.
        saturation_std: Standard deviation of the saturation's logarithm to base 2.
        imgfilter: Strength of the frequency bands' gains.
        imgfilter_bands: Strength of each band's, [0, pi / 8], [pi / 8, pi / 4], [pi / 4, pi / 2], [pi / 2, pi].
        imgfilter_std: Standard deviation of the gains' logarithms to base 2.
        noise: Strength of the noise.
        cutout: Strength of the hole.
        noise_std: Standard deviation of the noise's standard deviation.
        cutout_size: Sides of the hole, as a part of the image's.

    Source: Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020, section 2.3 and
        appendix B.
    """

    p: torch.Tensor
    Hz_geom: torch.Tensor
    Hz_fbank: torch.Tensor
    strengths: torch.Tensor
    effective: torch.Tensor
    is_rotation: torch.Tensor
    spreads: torch.Tensor
    gate_of: torch.Tensor
    band_power: torch.Tensor

    def __init__(
        self,
        xflip: float = 0,
        rotate90: float = 0,
        xint: float = 0,
        xint_max: float = 0.125,
        scale: float = 0,
        rotate: float = 0,
        aniso: float = 0,
        xfrac: float = 0,
        scale_std: float = 0.2,
        rotate_max: float = 1,
        aniso_std: float = 0.2,
        xfrac_std: float = 0.125,
        brightness: float = 0,
        contrast: float = 0,
        lumaflip: float = 0,
        hue: float = 0,
        saturation: float = 0,
        brightness_std: float = 0.2,
        contrast_std: float = 0.5,
        hue_max: float = 1,
        saturation_std: float = 1,
        imgfilter: float = 0,
        imgfilter_bands: Sequence[float] = (1, 1, 1, 1),
        imgfilter_std: float = 1,
        noise: float = 0,
        cutout: float = 0,
        noise_std: float = 0.1,
        cutout_size: float = 0.5,
    ) -> None:
        super().__init__()
        if len(imgfilter_bands) != 4 or min(imgfilter_bands) < 0:
            expected = "be 4 numbers that are not negative"
            raise checks.bad_value("AugmentPipe", "imgfilter_bands", expected, imgfilter_bands)
        given = {"xflip": xflip, "rotate90": rotate90, "xint": xint, "scale": scale, "rotate": rotate, "aniso": aniso}
        given |= {"xfrac": xfrac, "brightness": brightness, "contrast": contrast, "lumaflip": lumaflip, "hue": hue}
        given |= {"saturation": saturation, "imgfilter": imgfilter, "noise": noise, "cutout": cutout}
        for name, value in given.items():
            if not value >= 0:
                raise checks.bad_value("AugmentPipe", name, "not be negative", value)
        strengths = {gate: float(given[argument]) for gate, argument in _GATES.items()}
        for i, band in enumerate(imgfilter_bands):
            strengths[f"band{i}"] *= band
        spreads = {"xint_x": xint_max, "xint_y": xint_max, "hue": math.pi * hue_max, "noise": noise_std}
        spreads |= {"before": math.pi * rotate_max, "after": math.pi * rotate_max, "brightness": brightness_std}
        spreads |= {"scale": scale_std, "aniso": aniso_std, "xfrac_x": xfrac_std, "xfrac_y": xfrac_std}
        spreads |= {"contrast": contrast_std, "saturation": saturation_std}
        spreads |= {f"band{i}": imgfilter_std for i in range(4)}
        self.cutout_size = cutout_size
        self.active = frozenset(name for name, value in strengths.items() if value > 0)
        self.register_buffer("p", torch.ones([]))
        self.register_buffer("Hz_geom", setup_filter(SYM6))
        self.register_buffer("Hz_fbank", filter_bank().float())
        amounts = _UNIFORM | _NORMAL
        constants = {
            "strengths": torch.tensor([strengths[gate] for gate in _GATES]),
            "effective": torch.tensor([_EFFECTIVE.get(gate, 1.0) for gate in _GATES]),
            "is_rotation": torch.tensor([gate in ("before", "after") for gate in _GATES]),
            "spreads": torch.tensor([float(spreads[amount]) for amount in amounts]),
            "gate_of": torch.tensor([list(_GATES).index(gate) for gate in amounts.values()]),
            "band_power": torch.tensor(_BAND_POWER),
        }
        for name, constant in constants.items():
            self.register_buffer(name, constant, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [N, C, H, W] of any floating-point dtype, transformed at random; differentiable to any order.

        Raises:
            TypeError: x is not of a floating-point dtype.
            ValueError: x is no batch of images; a warp of one-pixel sides; colours of neither 1 nor 3 channels.
        """
        checks.check_image("AugmentPipe", x)
        return self.transform(x, self.draw(x))

    def draw(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """The parameters of every transform for the images x, each [N], float64 for float64, else float32.

        Angles are in radians, gains and scales logarithms to base 2, shifts parts of the image's size. What is 0 does
        nothing; the cutout's size is 0 where there is none.
        """
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        chance = (self.strengths * self.p).clamp(0, 1)  # [gates]
        either = 1 - (1 - chance).sqrt()  # [gates], for each of two rotations
        chance = torch.where(self.is_rotation, either, chance * self.effective)  # [gates]
        uniform = torch.rand([len(x), len(_GATES) + len(_UNIFORM) + 3], dtype=dtype, device=x.device)
        gates, uniform, others = uniform.split([len(_GATES), len(_UNIFORM), 3], 1)
        fires = (gates < chance).to(uniform.dtype)  # [N, gates]
        normal = torch.randn([len(x), len(_NORMAL)], dtype=dtype, device=x.device)
        amounts = torch.cat([uniform * 2 - 1, normal], 1)  # [N, amounts]
        amounts = amounts * self.spreads * fires.index_select(1, self.gate_of)  # [N, amounts]
        flips = dict(zip(_GATES, fires.unbind(1), strict=True))
        turn, centre_x, centre_y = others.unbind(1)  # [N], in [0, 1)
        turns = flips["rotate90"] * ((turn * 3).floor() + 1)  # [N]
        drawn = dict(zip(_UNIFORM | _NORMAL, amounts.unbind(1), strict=True))
        drawn |= {"xflip": flips["xflip"], "lumaflip": flips["lumaflip"], "turns": turns}
        return drawn | {"cutout": flips["cutout"] * self.cutout_size, "centre_x": centre_x, "centre_y": centre_y}

    def transform(self, x: torch.Tensor, drawn: dict[str, torch.Tensor]) -> torch.Tensor:
        """Images [N, C, H, W] transformed with given parameters, named and scaled as those of `draw`."""
        channels_last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
        y = x.contiguous()  # three channels are too few for vectors of them
        if self.active & {"xflip", "rotate90", "xint", "scale", "before", "aniso", "xfrac"}:
            y = warp(y, self._inverse_affine(y, drawn), self.Hz_geom)
        if self.active & {"brightness", "contrast", "lumaflip", "hue", "saturation"}:
            contrast, saturation = torch.exp2(drawn["contrast"]), torch.exp2(drawn["saturation"])
            y = recolour(y, drawn["brightness"], contrast, drawn["lumaflip"], drawn["hue"], saturation)
        if self.active & {f"band{i}" for i in range(4)}:
            log2_gains = torch.stack([drawn[f"band{i}"] for i in range(4)], 1)  # [N, 4]
            gains = band_gains(log2_gains, self.band_power)  # [N, 4]
            y = filter_bands(y, gains @ self.Hz_fbank.to(gains.dtype))
        if "noise" in self.active:
            y = torch.addcmul(y, torch.randn_like(y), drawn["noise"].abs().to(y.dtype)[:, None, None, None])
        if "cutout" in self.active:
            y = cut_out(y, (drawn["centre_x"], drawn["centre_y"]), drawn["cutout"])
        return y.contiguous(memory_format=torch.channels_last) if channels_last else y

    def _inverse_affine(self, x: torch.Tensor, drawn: dict[str, torch.Tensor]) -> torch.Tensor:
        height, width = x.shape[2:]
        shift = (drawn["xint_x"] * width).round(), (drawn["xint_y"] * height).round()  # [N]
        move = drawn["xfrac_x"] * width, drawn["xfrac_y"] * height  # [N]
        flip, turns, scale = drawn["xflip"], drawn["turns"], drawn["scale"]  # [N]
        return inverse_affine(flip, turns, shift, scale, drawn["before"], drawn["aniso"], drawn["after"], move)

    def extra_repr(self) -> str:
        return ", ".join(dict.fromkeys(argument for gate, argument in _GATES.items() if gate in self.active))
