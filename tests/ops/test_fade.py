"""fade and fade_detail: what is particular about them."""

from __future__ import annotations

import pytest
import torch

from gankern import fade, fade_detail


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_at_0_it_is_the_old_image_and_at_1_the_new_one_to_the_last_bit(dtype, backend, device):
    new, old = torch.randn([2, 3, 4, 6], device=device).to(dtype), torch.randn([2, 3, 2, 3], device=device).to(dtype)
    doubled = old.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(fade(new, old, 0, backend=backend), doubled)
    assert torch.equal(fade(new, old, 1, backend=backend), new)
    assert torch.equal(fade_detail(new, 1.0, backend=backend), new)


def test_details_are_what_a_2x2_box_averages_away(backend, device):
    x = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]], device=device)
    expected = [[[[0.25 * v + 0.75 * 4 for v in row] for row in ([1, 3], [5, 7])]]]
    assert fade_detail(x, 0.25, backend=backend).tolist() == expected


def test_a_tensor_and_a_number_give_the_same(backend, device):
    new, old = torch.randn([2, 3, 4, 6], device=device), torch.randn([2, 3, 2, 3], device=device)
    alpha = torch.tensor(0.375, device=device)
    assert torch.equal(fade(new, old, alpha, backend=backend), fade(new, old, 0.375, backend=backend))


def test_the_inputs_are_kept_only_for_a_gradient_of_alpha():
    new, old = torch.randn([1, 1, 2, 2], requires_grad=True), torch.randn([1, 1, 1, 1], requires_grad=True)
    for alpha, kept in ((torch.tensor(0.5), 1), (torch.tensor(0.5, requires_grad=True), 3)):
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, to=saved: to.append(t) or t, lambda t: t):
            fade(new, old, alpha, backend="native")
        assert len(saved) == kept


@pytest.mark.parametrize("function", ["fade", "detail"])
def test_formats_may_differ_and_the_result_has_that_of_the_new(function, backend, device):
    new = torch.randn([2, 3, 4, 6], device=device).contiguous(memory_format=torch.channels_last)
    old = torch.randn([2, 3, 2, 3], device=device)
    y = fade(new, old, 0.5, backend=backend) if function == "fade" else fade_detail(new, 0.5, backend=backend)
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"old": torch.zeros([1, 2, 3, 4])}, ValueError, r"old must have shape \[1, 2, 4, 4\] or \[1, 2, 2, 2\]"),
        ({"old": torch.zeros([1, 2, 4, 4], dtype=torch.float64)}, TypeError, "old must be of the dtype of new"),
        ({"new": torch.zeros([2, 4, 4])}, ValueError, "new must have 4 dimensions"),
        ({"alpha": torch.zeros([1])}, ValueError, "alpha must be a number or a tensor without dimensions"),
        ({"alpha": "0"}, TypeError, "alpha must be a number"),
    ],
    ids=str,
)
def test_errors_name_the_argument(change, error, message):
    arguments = {"new": torch.zeros([1, 2, 4, 4]), "old": torch.zeros([1, 2, 2, 2]), "alpha": 0.5}
    with pytest.raises(error, match=f"gankern.fade: {message}"):
        fade(**{**arguments, **change})


def test_details_need_an_even_size():
    with pytest.raises(ValueError, match=r"gankern.fade_detail: x must have an even height and width"):
        fade_detail(torch.zeros([1, 1, 3, 4]), 0.5)
