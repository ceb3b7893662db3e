"""grid_sample and affine_grid: torch's own results, points that lie anywhere, refusals."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from case import LAYOUTS, Kernels, like_random
from cases_grid_sample import points

import gankern
from gankern import dispatch
from gankern.reference import grid_sample as reference


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def grid_for(x: torch.Tensor, h: int, w: int, align_corners: bool = False) -> torch.Tensor:
    return points(x.shape[0], h, w, tuple(x.shape), torch.Generator().manual_seed(2), align_corners).to(x.dtype)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("channels", [1, 3, 19])
def test_values_and_gradients_are_those_of_torch(channels, layout, align_corners, backend, device):
    x = LAYOUTS[layout](images(2, channels, 9, 6)).to(device).requires_grad_()
    grid = grid_for(x, 7, 40, align_corners).to(device).requires_grad_()
    y = gankern.grid_sample(x, grid, align_corners, backend=backend)
    expected = F.grid_sample(x, grid, align_corners=align_corners)
    torch.testing.assert_close(y, expected)
    dy = like_random(y)
    for actual, value in zip(
        torch.autograd.grad(y, (x, grid), dy), torch.autograd.grad(expected, (x, grid), dy), strict=True
    ):
        torch.testing.assert_close(actual, value, rtol=1e-10, atol=1e-10)


def test_the_form_for_older_torches_is_the_same_to_second_order():
    x = images(2, 3, 5, 4).requires_grad_()
    grid = grid_for(x, 3, 6).requires_grad_()
    torch.testing.assert_close(reference._sampled(x, grid, False), F.grid_sample(x, grid, align_corners=False))
    assert torch.autograd.gradgradcheck(lambda x, grid: reference._sampled(x, grid, False), (x, grid))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_points_outside_are_zero_and_points_that_are_no_numbers_are_nan(layout, backend, device):
    x = LAYOUTS[layout](images(1, 16, 3, 4)).to(device).requires_grad_()
    far = [-1e30, 1e30, 3e9, -3e9, 1e5, -7.0, 2.0]
    no_numbers = [math.inf, -math.inf, math.nan]
    grid = torch.tensor([[v, 0.1] for v in far + no_numbers] + [[0.1, v] for v in far + no_numbers])
    grid = grid.double().reshape(1, 2, 10, 2).to(device).requires_grad_()
    y = gankern.grid_sample(x, grid, backend=backend)
    assert torch.equal(y[..., :7], torch.zeros_like(y[..., :7]))
    assert y[..., 7:].isnan().all()
    dx, dgrid = torch.autograd.grad(y, (x, grid), torch.ones_like(y))
    assert torch.equal(dx, torch.zeros_like(dx))
    assert torch.equal(dgrid[:, :, :7], torch.zeros_like(dgrid[:, :, :7]))


def test_a_pixel_outside_is_not_read_even_if_its_neighbour_is_infinite(backend, device):
    x = torch.full([1, 1, 2, 2], math.inf, dtype=torch.float64, device=device)
    grid = torch.tensor([[[[-1.9, -1.9], [2.0, 0.0]]]], dtype=torch.float64, device=device)
    assert torch.equal(gankern.grid_sample(x, grid, backend=backend), x.new_zeros([1, 1, 1, 2]))


@pytest.mark.kernels
def test_a_penalty_behind_an_augmentation_needs_kernels_only(backend, device):
    """ADA and R1: the gradient of the gradient is again grid_sample, and nobody wants that of the grid."""
    x = images(2, 3, 6, 6).to(device).requires_grad_()
    grid = grid_for(x, 6, 6).to(device)
    w = images(2, 3, 6, 6).to(device).requires_grad_()
    with Kernels() as kernels:
        y = gankern.grid_sample(x, grid, backend=backend)
        (dx,) = torch.autograd.grad((y * w).sum(), x, create_graph=True)
        dx.square().sum().backward()
    assert [name.split(".")[1] for name in kernels.names] == ["grid_sample", "grid_sample_backward", "grid_sample"]
    assert kernels.calls[1][1][1] is None  # x is not kept
    assert w.grad is not None


@pytest.mark.skipif(dispatch.why_not("grid_sample", "native", "cpu") is not None, reason="no native library")
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("channels", [3, 70])
def test_one_thread_and_two_give_the_same_bits(channels, layout):
    x = LAYOUTS[layout](images(3, channels, 40, 41).float()).requires_grad_()
    grid = grid_for(x, 50, 51).requires_grad_()
    threads = torch.get_num_threads()
    results = []
    for number in (1, 2):
        torch.set_num_threads(number)
        y = gankern.grid_sample(x, grid, backend="native")
        results.append([y, *torch.autograd.grad(y, (x, grid), like_random(y))])
    torch.set_num_threads(threads)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(2, 3, 5, 7), (2, 1, 1, 4), (2, 1, 6, 1)])
def test_affine_grid_is_that_of_torch(size, align_corners):
    theta = images(2, 2, 3).requires_grad_()
    actual = gankern.affine_grid(theta, size, align_corners)
    torch.testing.assert_close(actual, F.affine_grid(theta, size, align_corners))
    assert torch.autograd.gradgradcheck(lambda theta: gankern.affine_grid(theta, size, align_corners), (theta,))


def test_the_identity_map_changes_no_image(backend, device):
    x = images(2, 3, 5, 7).to(device)
    theta = torch.eye(2, 3, dtype=torch.float64, device=device).expand(2, 2, 3)
    y = gankern.grid_sample(x, gankern.affine_grid(theta, x.shape), backend=backend)
    torch.testing.assert_close(y, x)


def test_wrong_arguments_are_refused():
    x, grid = torch.zeros([2, 3, 4, 5]), torch.zeros([2, 4, 5, 2])
    with pytest.raises(ValueError, match=r"gankern.grid_sample: x must have 4 dimensions .*, got \[3, 4, 5\]"):
        gankern.grid_sample(x[0], grid)
    for wrong in (grid[:1], grid[0], grid[..., :1], grid[:, :0]):
        with pytest.raises(ValueError, match=r"gankern.grid_sample: grid must have shape \[N, h, w, 2\] with N = 2"):
            gankern.grid_sample(x, wrong)
    with pytest.raises(TypeError, match=r"grid must be of the dtype of x, torch.float32, or float32, got"):
        gankern.grid_sample(x, grid.double())
    with pytest.raises(TypeError, match=r"grid must be a torch.Tensor, got list"):
        gankern.grid_sample(x, [0.0])
    with pytest.raises(ValueError, match=r"gankern.affine_grid: theta must have shape \[N, 2, 3\], got \[2, 3\]"):
        gankern.affine_grid(torch.eye(2, 3), (1, 3, 4, 4))
    with pytest.raises(ValueError, match=r"size must be \(N, C, h, w\) with N = 1, got \(2, 3, 4, 4\)"):
        gankern.affine_grid(torch.eye(2, 3)[None], (2, 3, 4, 4))
