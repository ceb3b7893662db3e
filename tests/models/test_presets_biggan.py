"""The published configurations of BigGAN, SAGAN and SNGAN."""

from dataclasses import replace

import pytest
import torch

from gankern.models.config import Config, DataOptions, build_networks, find_preset, resolve


def config_of(name: str, resolution: int) -> Config:
    family = find_preset(name)[0]
    return Config(name, family, DataOptions("digits", "digits", 1797, True), *resolve(name, resolution, 1, 10))


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


def test_devices_share_the_images_that_go_through_at_once() -> None:
    at_once = [resolve("biggan128", 128, 3, 1000, gpus)[1].batch_gpu for gpus in (1, 8)]
    assert at_once == [256, 32]
    synchronised = [resolve(name, 128, 3, 1000, 8)[1].sync_bn for name in ("biggan128-paper", "biggan128")]
    assert synchronised == [True, False]


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
