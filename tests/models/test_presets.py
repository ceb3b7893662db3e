"""The published configurations."""

import json
from dataclasses import replace

import pytest
import torch

from gankern.models.config import Config, DataOptions, build_networks, find_preset, preset_names, resolve

# name, resolution, GPUs: batch, mbstd, channel_base, lr, gamma, ema_kimg, ema_rampup, kimg, map depth
PUBLISHED = [
    ("auto", 256, 1, (16, 4, 16384, 0.0025, 0.8192, 5.0, 0.05, 25000, 2)),
    ("auto", 256, 8, (64, 4, 16384, 0.0025, 0.2048, 20.0, 0.05, 25000, 2)),
    ("auto", 512, 1, (8, 4, 32768, 0.0025, 6.5536, 2.5, 0.05, 25000, 2)),
    ("auto", 1024, 8, (32, 4, 32768, 0.002, 6.5536, 10.0, 0.05, 25000, 2)),
    ("auto", 32, 1, (32, 4, 16384, 0.0025, 0.0064, 10.0, 0.05, 25000, 2)),
    ("stylegan2", 1024, 8, (32, 4, 32768, 0.002, 10, 10, None, 25000, 8)),
    ("paper256", 256, 8, (64, 8, 16384, 0.0025, 1, 20, None, 25000, 8)),
    ("paper512", 512, 8, (64, 8, 32768, 0.0025, 0.5, 20, None, 25000, 8)),
    ("paper1024", 1024, 8, (32, 4, 32768, 0.002, 2, 10, None, 25000, 8)),
    ("cifar", 32, 2, (64, 32, 32768, 0.0025, 0.01, 500, 0.05, 100000, 2)),
]


@pytest.mark.parametrize(("name", "resolution", "gpus", "row"), PUBLISHED)
def test_a_published_configuration_resolves_to_its_row(name: str, resolution: int, gpus: int, row: tuple) -> None:
    m, t = resolve(name, resolution, 3, 0, gpus)
    scale = (t.batch, m.mbstd_group_size, m.channel_base)
    found = (*scale, t.lr, t.r1_gamma, t.ema_kimg, t.ema_rampup, t.kimg, m.map_depth)
    assert found == pytest.approx(row)


def test_published_configurations_share_the_rest() -> None:
    for name in ("auto", "stylegan2", "paper256", "paper512", "paper1024", "cifar"):
        m, t = resolve(name, 256, 3, 0)
        assert (t.beta1, t.beta2, t.r1_interval, t.pl_interval) == (0.0, 0.99, 16, 4)
        assert (m.z_dim, m.w_dim, m.channel_max, m.num_fp16_res) == (512, 512, 512, 4)
        assert (m.conv_clamp, m.precision, t.mirror) == (256, "fp16", False)


def test_only_cifar_leaves_out_path_length_and_mixing() -> None:
    for name in ("auto", "stylegan2", "paper256", "paper512", "paper1024", "cifar"):
        m, t = resolve(name, 32, 3, 10)
        cifar = name == "cifar"
        assert (t.pl_weight, t.style_mixing_prob) == ((0, 0) if cifar else (2, 0.9))
        assert m.d_architecture == ("orig" if cifar else "resnet")


def test_fp32_has_no_low_precision_and_no_clamp() -> None:
    m, _ = resolve("paper256", 256, 3, 0, precision="fp32")
    assert (m.num_fp16_res, m.conv_clamp) == (0, None)


@pytest.mark.parametrize("wrong", [{"name": "paper"}, {"precision": "fp64"}])
def test_unknown_names_are_refused_with_the_choices(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=f"must be one of .*got {next(iter(wrong.values()))}"):
        resolve(**{"name": "auto", "resolution": 32, "channels": 3, "c_dim": 0, **wrong})


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"kimg": -1.0}, {"r1_gamma": float("nan")}, {"snap": 0}])
def test_options_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(resolve("digits", 32, 1, 10)[1], **wrong)


def config_of(name: str, resolution: int = 32) -> Config:
    return Config(
        name, find_preset(name)[0], DataOptions("digits", "digits", 1797, True), *resolve(name, resolution, 1, 10)
    )


@pytest.mark.parametrize("name", preset_names())
def test_a_configuration_survives_json(name: str) -> None:
    config = config_of(name)
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_the_networks_are_what_the_options_say() -> None:
    config = config_of("cifar", 16)
    G, D = build_networks(replace(config, model=replace(config.model, channel_base=256, z_dim=16, w_dim=16)))
    assert (G.z_dim, G.c_dim, G.mapping.num_layers, G.img_resolution) == (16, 10, 2, 16)
    assert (D.c_dim, D.b16.architecture, D.b4.mbstd.group_size) == (10, "orig", 32)


# name, resolution: batch, batch_gpu, d_steps, lr, d_lr, betas, Adam's eps, z_dim, ch, average from, of SN
BIGGAN = [
    ("biggan128", 128, (2048, 256, 1, 1e-4, 4e-4, (0.0, 0.999), 1e-6, 120, 96, 20000, 1e-6)),
    ("biggan128", 256, (2048, 256, 1, 1e-4, 4e-4, (0.0, 0.999), 1e-6, 119, 96, 20000, 1e-6)),
    ("biggan128-bs512x4", 128, (2048, 512, 1, 1e-4, 4e-4, (0.0, 0.999), 1e-6, 120, 96, 20000, 1e-6)),
    ("biggan128-ch64", 128, (2048, 256, 1, 1e-4, 4e-4, (0.0, 0.999), 1e-6, 120, 64, 20000, 1e-6)),
    ("biggan-deep128", 128, (2048, 256, 1, 1e-4, 4e-4, (0.0, 0.999), 1e-6, 128, 128, 20000, 1e-6)),
    ("biggan-cifar", 32, (50, None, 4, 2e-4, 2e-4, (0.0, 0.999), 1e-8, 128, 64, 1000, 1e-8)),
    ("biggan-cifar-ch96", 32, (64, None, 5, 2e-4, 2e-4, (0.5, 0.999), 1e-6, 80, 96, 1000, 1e-6)),
]


@pytest.mark.parametrize(("name", "resolution", "row"), BIGGAN)
def test_a_published_biggan_resolves_to_its_row(name: str, resolution: int, row: tuple) -> None:
    m, t = resolve(name, resolution, 3, 10)
    found = (t.batch, t.batch_gpu, t.d_steps, t.lr, t.d_lr, (t.beta1, t.beta2), t.adam_eps)
    assert (*found, m.z_dim, m.ch, t.ema_start, m.sn_eps) == row
    assert (t.loss, t.d_joint, t.order, t.ema_beta, t.ema_buffers) == ("hinge", True, ("D", "G", "ema"), 0.9999, "lerp")
    assert (m.hier, m.attention) == (
        (False, ()) if name == "biggan-cifar" else (True, () if "cifar" in name else (64,))
    )


@pytest.mark.parametrize(
    ("name", "batch", "d_steps", "lrs", "beta2", "average"),
    [("sagan128", (256, 128), 1, (1e-4, 4e-4), 0.999, 0.9999), ("sngan128", (64, None), 5, (2e-4, 2e-4), 0.9, 0.0)],
)
def test_a_published_sagan_resolves_to_its_row(
    name: str, batch: tuple, d_steps: int, lrs: tuple, beta2: float, average: float
) -> None:
    m, t = resolve(name, 128, 3, 10)
    assert ((t.batch, t.batch_gpu), t.d_steps, (t.lr, t.d_lr), t.beta2, t.ema_beta) == (
        batch,
        d_steps,
        lrs,
        beta2,
        average,
    )
    assert (m.modulation, m.z_dim, m.wide, m.attention) == ("class", 128, name == "sagan128", (64,) * (d_steps == 1))


@pytest.mark.parametrize("name", ["biggan-digits", "sagan128", "sngan-cifar", "selfmod-cifar"])
def test_other_sizes_are_built_without_tables(name: str) -> None:
    for resolution in (32, 48):
        small = {"ch": 4, "attention": ()} | ({} if name.startswith("biggan") else {"d_ch": 4})
        config = config_of(name, resolution)
        G, D = build_networks(replace(config, model=replace(config.model, **small)))
        c = torch.eye(10)[:2]
        img = G(torch.randn(2, G.z_dim), c)
        assert img.shape == (2, 1, resolution, resolution)
        assert D(img, c).shape == (2, 1)
