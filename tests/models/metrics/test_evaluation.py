"""Several metrics of one generator, in one process or in two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from small_generators import Stripes, squared
from torch import Tensor, nn

from gankern.models.metrics import swd
from gankern.models.metrics.evaluation import METRICS, Options, evaluate, prepare
from gankern.models.metrics.extractors import Extractor
from gankern.models.metrics.fid import feature_distance
from gankern.models.training.data import ImageArray

EVERY = [name for name in METRICS if not name.startswith("ppl-w")]


def pooled(images: Tensor) -> Tensor:
    """Features [N, 48]: means of 4x4 pixels."""
    return torch.nn.functional.avg_pool2d(images.double(), 4).flatten(1)


def classes(images: Tensor) -> Tensor:
    """Probabilities [N, 4]."""
    return (images.double()[:, 0, ::8, ::8].flatten(1) / 50).softmax(1)


class Labelled(Stripes):
    c_dim = 3


EXTRACTORS = {
    "inception": Extractor(pooled, "pooled"),
    "probabilities": Extractor(classes, "classes"),
    "vgg": Extractor(pooled, "pooled"),
}
OPTIONS = Options(num_fake=90, batch=16, extractors=EXTRACTORS, distance=squared)


@pytest.fixture(autouse=True)
def few_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swd, "PATCHES_PER_IMAGE", 8)


def reals(n: int = 70, size: int = 16, channels: int = 1) -> ImageArray:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (n, channels, size, size), generator=generator, dtype=torch.uint8)
    return ImageArray("random", images)


def test_every_metric_gives_finite_values_under_its_own_names() -> None:
    found = evaluate(Stripes(), reals(), EVERY, OPTIONS)
    assert set(found) == {
        "swd_16", "swd", "ms_ssim", "fid", "kid", "kid_std", "inception_score", "inception_score_std",
        "precision", "recall", "f1", "density", "coverage", "ppl_zfull", "ppl_zend",
    }  # fmt: skip
    assert all(torch.tensor(list(found.values())).isfinite())


def test_a_generator_of_the_real_images_is_at_distance_zero() -> None:
    data = reals()

    class Copier(nn.Module):
        z_dim = 1

        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones([]))
            self.shown = -1  # the first image is looked at once more, for its size

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            numbers = torch.arange(max(self.shown, 0), max(self.shown, 0) + len(z))
            self.shown = 0 if self.shown < 0 else self.shown + len(z)
            return data.images[numbers].float() / 127.5 - 1

    found = evaluate(Copier(), data, ["fid", "pr", "dc"], replace(OPTIONS, num_fake=70))
    assert found["fid"] == pytest.approx(0, abs=1e-8)
    assert (found["precision"], found["recall"], found["coverage"]) == (1, 1, 1)


def test_fid_is_that_of_all_real_images_and_the_generated_ones() -> None:
    data, seen = reals(), []

    def watch(images: Tensor) -> Tensor:
        seen.append(images)
        return pooled(images)

    options = replace(OPTIONS, extractors={"inception": Extractor(watch)})
    found = evaluate(Stripes(), data, ["fid"], options)["fid"]
    images = torch.cat(seen)
    assert len(images) == 70 + 90
    expected = feature_distance(pooled(data.images.expand(-1, 3, -1, -1)), pooled(images[70:]))
    assert found == pytest.approx(expected, rel=1e-9)
    assert not torch.equal(images[:70, :1], data.images)  # in another order


def test_metrics_measured_together_are_the_same_as_one_by_one() -> None:
    together = evaluate(Stripes(), reals(), ["swd", "ms-ssim", "kid"], OPTIONS)
    alone = {}
    for name in ("swd", "ms-ssim", "kid"):
        alone |= evaluate(Stripes(), reals(), [name], OPTIONS)
    assert together == alone


def test_the_batch_size_changes_nothing_for_a_generator_without_noise() -> None:
    expected = evaluate(Stripes(), reals(), EVERY, OPTIONS)
    assert evaluate(Stripes(), reals(), EVERY, replace(OPTIONS, batch=10)) == pytest.approx(expected, rel=1e-6)


def test_the_seed_changes_it_and_the_global_random_numbers_stay() -> None:
    before = torch.get_rng_state()
    first, again, other = (
        evaluate(Stripes(noise=0.1), reals(), ["swd"], replace(OPTIONS, seed=seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert torch.equal(torch.get_rng_state(), before)


def test_images_are_averaged_down_to_those_of_a_generator_that_has_not_grown() -> None:
    large = reals(size=32)
    small = ImageArray("small", torch.nn.functional.avg_pool2d(large.images.float(), 2).round().to(torch.uint8))
    assert evaluate(Stripes(), large, ["swd"], OPTIONS) == evaluate(Stripes(), small, ["swd"], OPTIONS)


def test_real_features_are_computed_once(tmp_path: Path) -> None:
    calls = []

    def counted(images: Tensor) -> Tensor:
        calls.append(len(images))
        return pooled(images)

    options = replace(OPTIONS, cache=tmp_path, extractors={"inception": Extractor(counted, "counted")})
    first = evaluate(Stripes(), reals(), ["fid", "kid"], options)
    assert sum(calls) == 70 + 90
    assert evaluate(Stripes(), reals(), ["fid", "kid"], options) == first
    assert sum(calls) == 70 + 90 + 90
    evaluate(Stripes(), reals(60), ["fid"], options)  # other images
    assert sum(calls) == 70 + 90 + 90 + 60 + 90


def test_an_extractor_without_a_fingerprint_is_never_cached(tmp_path: Path) -> None:
    options = replace(OPTIONS, cache=tmp_path, extractors={"inception": Extractor(pooled)})
    evaluate(Stripes(), reals(), ["fid"], options)
    assert list(tmp_path.iterdir()) == []


def test_progress_is_reported_to_the_end_of_each_stage() -> None:
    seen: dict[str, list[tuple[int, int]]] = {}
    options = replace(OPTIONS, report=lambda what, done, total: seen.setdefault(what, []).append((done, total)))
    evaluate(Stripes(), reals(), ["swd", "fid", "ppl-zend"], options)
    assert {what: stages[-1] for what, stages in seen.items()} == {
        "real images": (90, 90),
        "generated images": (90, 90),
        "SWD": (4, 4),
        "PPL": (90, 90),
    }


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluate(Stripes(), reals(), ["fit"], OPTIONS), "metrics must be of swd, ms-ssim, .*, got fit"),
        (lambda: evaluate(Stripes(channels=3), reals(), ["swd"], OPTIONS), r"\[1, 16, 16\] or smaller .*\[3, 16, 16\]"),
        (lambda: evaluate(Labelled(), reals(), ["swd"], OPTIONS), "labels of 3 numbers like the model, got 0"),
        (lambda: evaluate(Stripes(size=32), reals(), ["swd"], OPTIONS), r"got \[1, 32, 32\]"),
        (lambda: evaluate(Stripes(), reals(), ["swd"], Options(truncation_psi=0.5)), "truncation_psi must be 1"),
        (lambda: Options(batch=3), "batch must be even, got 3"),
        (lambda: Options(num_fake=1), "num_fake must be at least 2, got 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_missing_file_shows_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANKERN_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="--inception FILE"):
        prepare(["swd", "fid"], Options(), torch.device("cpu"))


def on_a_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    swd.PATCHES_PER_IMAGE = 8
    dist.init_process_group("gloo", f"file://{folder}/ranks", rank=rank, world_size=2)
    options = replace(OPTIONS, cache=folder / "cache")
    for attempt in ("fresh", "cached"):
        found = evaluate(Stripes(noise=0.1), reals(), EVERY, options)
        torch.save(found, folder / f"{attempt}{rank}.pt")
    lone = evaluate(Stripes(), reals(5), ["swd", "fid"], replace(OPTIONS, num_fake=6))  # rank 1 sees no image
    torch.save(lone, folder / f"lone{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="this torch has no gloo")
def test_two_processes_measure_what_one_does(tmp_path: Path) -> None:
    mp.spawn(on_a_rank, (tmp_path,), nprocs=2)
    found = {path.stem: torch.load(path) for path in tmp_path.glob("*.pt")}
    assert found["fresh0"] == found["fresh1"] == found["cached0"] == found["cached1"]
    alone = evaluate(Stripes(noise=0.1), reals(), EVERY, OPTIONS)
    assert found["fresh0"] == pytest.approx(alone, rel=1e-6)
    assert found["lone0"] == found["lone1"]
    assert found["lone0"] == pytest.approx(
        evaluate(Stripes(), reals(5), ["swd", "fid"], replace(OPTIONS, num_fake=6)), rel=1e-6, abs=1e-6
    )
