"""Random numbers of one process; those of several are in test_distributed.py."""

import torch

from gankern.models.training.data import ImageData
from gankern.models.training.random_states import RandomStates, own_part, saved_ranks

CPU = torch.device("cpu")


def test_one_process_draws_everything_from_the_default_generator(digits8: ImageData) -> None:
    torch.manual_seed(3)
    random = RandomStates(0, CPU)
    found = random.latents(4, 2), random.labels(digits8, 4), torch.rand(1)
    torch.manual_seed(3)
    z, indices, noise = torch.randn(4, 2), torch.randint(len(digits8), (4,)), torch.rand(1)
    assert torch.equal(found[0], z)
    assert torch.equal(found[1], digits8.encode_labels(indices.numpy()))
    assert torch.equal(found[2], noise)


def test_the_whole_batch_is_one_process_s_part() -> None:
    assert torch.equal(own_part(torch.arange(5)), torch.arange(5))


def test_random_numbers_go_on_where_they_were_saved() -> None:
    random = RandomStates(0, CPU)
    saved = random.state_dict()
    assert saved_ranks(saved) == 1
    expected = torch.randn(3)
    torch.manual_seed(1)
    random.load_state_dict(saved, cur_nimg=8)
    assert torch.equal(torch.randn(3), expected)


def test_with_another_number_of_ranks_they_start_anew_from_seed_and_position() -> None:
    random = RandomStates(0, CPU)
    saved = {**random.state_dict(), "rng_ranks": [{"cpu": torch.get_rng_state(), "cuda": None}] * 2}
    drawn = []
    for cur_nimg in (8, 8, 16):
        random.load_state_dict(saved, cur_nimg)
        drawn.append(torch.randn(3))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
