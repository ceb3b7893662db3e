"""One process is one rank, for which everything that ranks do together does nothing."""

import torch

from gankern.models import ranks


def test_one_process_is_the_first_and_only_rank() -> None:
    assert (ranks.rank(), ranks.world_size(), ranks.everyone()) == (0, 1, None)
    assert list(ranks.shares(5, 2)) == [(0, 2), (2, 4), (4, 5)]


def test_sums_and_means_over_one_rank_are_its_own() -> None:
    a, b = torch.randn(3), torch.randn(2)
    before = a.clone(), b.clone()
    ranks.sum_(a, b)
    ranks.mean_(a, b)
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])


def test_what_the_first_rank_does_is_done() -> None:
    done: list[int] = []
    ranks.on_first_rank(done.append)(3)
    assert done == [3]
    assert ranks.by_first_rank(max, 1, 2) == ranks.from_first_rank(2) == 2
    assert ranks.gather_objects("x") == ["x"]
