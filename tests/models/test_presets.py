"""The published configurations."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from gankern.models.config import FAMILIES, Config, DataOptions, build_networks, find_preset, preset_names, resolve
from gankern.models.training.images import nominal

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


# name: kimg, minibatch at 4, 8, ... 1024, learning rates other than 0.001, minibatch stddev group, train and fade kimg
PROGAN = {
    "progan-v1-1gpu": (19000, [16] * 6 + [14, 6, 3], {}, 16, 800),
    "progan-v2-1gpu": (12000, [128, 128, 128, 64, 32, 16, 8, 4, 4], {1024: 0.0015}, 4, 600),
    "progan-v2-2gpus": (12000, [256, 256, 128, 64, 32, 16, 8, 8, 8], {512: 0.0015, 1024: 0.002}, 4, 600),
    "progan-v2-4gpus": (12000, [512, 256, 128, 64, 32] + [16] * 4, {256: 0.0015, 512: 0.002, 1024: 0.003}, 4, 600),
    "progan-v2-8gpus": (
        12000,
        [512, 256, 128, 64] + [32] * 5,
        {128: 0.0015, 256: 0.002, 512: 0.003, 1024: 0.003},
        4,
        600,
    ),
}


@pytest.mark.parametrize("name", PROGAN)
def test_progan_trains_as_published(name: str) -> None:
    kimg, batches, rates, mbstd, phase = PROGAN[name]
    m, t = resolve(name, 1024, 3, 0)
    assert (t.growth.first_resolution, t.growth.train_kimg, t.growth.fade_kimg, t.growth.repeats) == (
        4,
        phase,
        phase,
        4,
    )
    assert (t.kimg, m.mbstd_group_size, t.lr, t.growth.lr) == (kimg, mbstd, 0.001, rates)
    assert list(t.growth.batch.items()) == list(zip([4, 8, 16, 32, 64, 128, 256, 512, 1024], batches, strict=True))
    assert (t.loss, t.gp_weight, t.gp_target, t.drift_weight, t.order) == ("wgan", 10, 1, 0.001, ("D", "ema", "G"))
    assert (t.ema_beta, t.ema_kimg, t.beta1, t.beta2, t.adam_eps) == (0.999, None, 0, 0.99, 1e-8)
    assert (m.z_dim, m.fmap_base, m.fmap_max, m.fused_scale) == (512, 8192, 512, True)


def test_a_batch_made_for_several_gpus_passes_through_one_in_parts() -> None:
    assert resolve("progan-v2-8gpus", 1024, 3, 0)[1].growth.batch_gpu == {256: 16, 512: 8, 1024: 4}
    assert resolve("progan-v2-8gpus", 1024, 3, 0, precision="fp16")[1].growth.batch_gpu == {512: 16, 1024: 8}
    assert resolve("progan-v2-1gpu", 1024, 3, 0)[1].growth.batch_gpu == {}


# name: minibatch at 8, ... 1024
STYLEGAN = {
    "stylegan-1gpu": [128, 128, 64, 32, 16, 8, 4, 4],
    "stylegan-2gpus": [256, 128, 64, 32, 16, 8, 8, 8],
    "stylegan-4gpus": [256, 128, 64, 32, 16, 16, 16, 16],
    "stylegan-8gpus": [256, 128, 64, 32, 32, 32, 32, 32],
}


@pytest.mark.parametrize("name", STYLEGAN)
def test_stylegan_trains_as_published(name: str) -> None:
    m, t = resolve(name, 1024, 3, 0)
    assert (t.growth.first_resolution, t.growth.train_kimg, t.growth.fade_kimg, t.growth.repeats) == (8, 600, 600, 4)
    assert list(t.growth.batch.values()) == STYLEGAN[name]
    assert (t.kimg, t.lr, t.growth.lr) == (25000, 0.001, {128: 0.0015, 256: 0.002, 512: 0.003, 1024: 0.003})
    assert (t.loss, t.r1_gamma, t.r1_interval, t.order) == ("logistic", 10, 1, ("D", "ema", "G"))
    assert (t.ema_kimg, t.ema_rampup, t.style_mixing_prob, t.beta1, t.beta2) == (10, None, 0.9, 0, 0.99)
    assert (m.z_dim, m.w_dim, m.map_depth, m.channel_base, m.channel_max, m.mbstd_group_size) == (
        512,
        512,
        8,
        16384,
        512,
        4,
    )


@pytest.mark.parametrize(("name", "at_1024", "at_64"), [("progan", 12000, 7200), ("stylegan", 25000, 20200)])
def test_a_smaller_run_trains_its_last_resolution_as_long_as_the_published_one(
    name: str, at_1024: float, at_64: float
) -> None:
    assert resolve(name, 1024, 3, 0)[1].kimg == at_1024
    assert resolve(name, 64, 3, 0)[1].kimg == at_64


def test_config_e_has_half_the_channels_and_more_of_r1() -> None:
    e, training_e = resolve("config-e", 1024, 3, 0)
    f, training_f = resolve("stylegan2", 1024, 3, 0, precision="fp32")
    assert replace(e, channel_base=32768) == f
    assert replace(training_e, r1_gamma=10.0) == training_f


@pytest.mark.parametrize(("name", "width"), [("progan", {"fmap_max": 16}), ("stylegan", {"channel_max": 16})])
def test_the_networks_of_the_growing_families_are_what_the_options_say(name: str, width: dict[str, int]) -> None:
    config = config_of(name, 16)
    G, D = build_networks(replace(config, model=replace(config.model, z_dim=8, **width)))
    assert (G.z_dim, G.c_dim, G.img_resolution, D.c_dim, D.img_channels) == (8, 10, 16, 10, 1)
    assert D.b4.mbstd.group_size == 4


SIZES = {"stylegan2": "digits", "stylegan": "stylegan-digits", "progan": "progan-digits", "biggan": "biggan-digits"}


@pytest.mark.parametrize("size", [(48, 64), (96, 32), (48, 48)], ids=str)
@pytest.mark.parametrize("family", [*SIZES, "sagan"])
def test_networks_of_every_family_take_any_size(family: str, size: tuple[int, int]) -> None:
    resolution, base_size = nominal(*size)
    name = SIZES.get(family, "sngan-cifar")
    model, _ = resolve(name, resolution, 4, 10, precision="fp32", base_size=base_size)
    model = replace(model, **{n: 32 for n in ("channel_max", "fmap_max") if hasattr(model, n)})  # type: ignore[type-var]
    G, D = FAMILIES[family].build(FAMILIES[family].options(**json.loads(json.dumps(asdict(model)))))  # type: ignore[call-overload]
    z, c = torch.randn(2, model.z_dim), torch.eye(10)[:2]
    img = G(z, c)
    assert img.shape == (2, 4, *size)
    assert D(img, c).shape == (2, 1)
