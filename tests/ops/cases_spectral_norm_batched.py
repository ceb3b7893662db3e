"""The cases of spectral_norm_batched: a weight x, and a second one of another shape, their results in one tensor."""

from __future__ import annotations

import random
from typing import Any

import torch
from case import Arguments, Case

import gankern


class TwoWeights(Case):
    @property
    def small(self) -> bool:
        """Where the vectors stay as they are, for a numerical derivative: by definition they are constants."""
        return super().small and self.what == "torch-eval"

    def run(self, arguments: Arguments, backend: str) -> torch.Tensor:
        """The buffers are copies, so that every call starts from the same ones."""
        a = dict(arguments)
        weights = [a.pop("x"), a.pop("second")]
        us, vs = [a.pop("u").clone(), a.pop("second_u").clone()], [a.pop("v"), a.pop("second_v")]
        vs = None if vs[0] is None else [v.clone() for v in vs]
        normalised = gankern.spectral_norm_batched(weights, us, vs=vs, backend=backend, **a)
        return torch.cat([y.flatten() for y in normalised])


def _case(what: str, shape: tuple[int, ...], with_v: bool = False, **options: Any) -> Case:
    second = (3, 4)
    dim = options.get("dim", 0)

    def tensors(generator: torch.Generator) -> Arguments:
        def random_vector(size: int) -> torch.Tensor:
            vector = torch.randn([size], dtype=torch.float64, generator=generator)
            return vector / vector.norm()

        made = {"second": torch.randn(second, dtype=torch.float64, generator=generator), "v": None, "second_v": None}
        for name, sizes in (("", shape), ("second_", second)):
            rows = sizes[dim]
            made[f"{name}u"] = random_vector(rows).float()
            if with_v:
                made[f"{name}v"] = random_vector(torch.Size(sizes).numel() // rows).float()
        if with_v:  # or u W v would be the small rest of a difference
            v = made["second_u"].double() @ made["second"].movedim(dim, 0)
            made["second_v"] = (v / v.norm()).float()
        return made

    return TwoWeights("spectral_norm_batched", what, shape, tensors, options, images=(), wrt=("x", "second"))


CASES = [
    _case("biggan", (4, 3, 2, 2)),
    _case("biggan-eval", (4, 3, 2, 2), training=False),
    _case("torch", (5, 3, 2, 1), with_v=True),
    _case("torch-eval", (5, 3, 2, 1), with_v=True, training=False),
    _case("u_first-two_iterations", (3, 7), with_v=True, order="u", num_iters=2, eps=1e-6),
    _case("transposed", (3, 5, 2, 2), dim=1),
    _case("one_row", (1, 6)),
    _case("one_column", (6, 1)),
    _case("layer", (70, 40, 3, 3)),
    _case("tall", (301, 20)),
]

TOO_LARGE = "layer"  # for Triton's interpreter


def random_case(rng: random.Random, name: str) -> Case:
    shape = tuple(rng.randint(1, 9) for _ in range(rng.choice([2, 4])))
    with_v = rng.random() < 0.5
    # Without training, given vectors make a random and perhaps tiny norm, on which nothing can be told.
    options = {"training": with_v or rng.random() < 0.7, "dim": rng.randint(0, 1), "num_iters": rng.randint(1, 3)}
    return _case(name, shape, with_v, order=rng.choice(["u", "v"]) if with_v else "v", **options)
