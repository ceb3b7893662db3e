"""squared_norms: what is particular about it."""

from __future__ import annotations

import pytest
import torch

from gankern import squared_norms


def test_known_values(backend, device):
    x = torch.tensor([[3.0, 4.0], [0.0, -2.0]], device=device)
    assert squared_norms(x, backend=backend).tolist() == [25.0, 4.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bits_neither_overflow_nor_stop_counting(dtype, backend, device):
    x = torch.full([2, 3, 64, 64], 300.0, dtype=dtype, device=device)  # its square is beyond float16
    y = squared_norms(x, backend=backend)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, x.float().square().sum([1, 2, 3]))


def test_many_small_squares_beside_a_large_one_are_not_lost(backend, device):
    x = torch.full([1, 2**22], 1e-3, device=device)
    x[0, 0] = 1.0
    expected = 1 + (2**22 - 1) * 1e-6
    assert squared_norms(x, backend=backend).item() == pytest.approx(expected, rel=1e-5)


def test_one_thread_and_two_give_the_same_bits():
    x = torch.randn([3, 5, 131, 127])
    threads = torch.get_num_threads()
    results = []
    for number in (1, 2):
        torch.set_num_threads(number)
        results.append(squared_norms(x))
    torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"gankern.squared_norms: x must have at least one dimension"):
        squared_norms(torch.zeros([]))
    with pytest.raises(TypeError, match=r"gankern.squared_norms: x must be float64"):
        squared_norms(torch.zeros([2], dtype=torch.int64))
