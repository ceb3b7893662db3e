"""A tensor of another shape than expected, wherever it is, gives one clear line."""

from __future__ import annotations

import plain_biggan
import plain_gan_zoo
import plain_huggingface
import plain_rosinality
import plain_studiogan
import plain_style_based_gan
import pytest
import torch

from gankern.models.convert import biggan_pytorch, gan_zoo, huggingface, rosinality, studiogan, style_based_gan

FILES = {
    "rosinality G": (rosinality, "g_ema", plain_rosinality.generator_state),
    "rosinality D": (rosinality, "d", plain_rosinality.discriminator_state),
    "style-based-gan G": (style_based_gan, "g_running", plain_style_based_gan.generator_state),
    "style-based-gan D": (style_based_gan, "discriminator", plain_style_based_gan.discriminator_state),
    "gan-zoo G": (gan_zoo, "avgG", plain_gan_zoo.generator_state),
    "gan-zoo D": (gan_zoo, "netD", plain_gan_zoo.discriminator_state),
    "biggan G": (biggan_pytorch, "G.pth", plain_biggan.generator_state),
    "biggan D": (biggan_pytorch, "D.pth", plain_biggan.discriminator_state),
    "studiogan G": (studiogan, "state_dict", plain_studiogan.generator_state),
    "studiogan D": (studiogan, "state_dict", plain_studiogan.discriminator_state),
    "huggingface": (huggingface, "pytorch_model.bin", plain_huggingface.generator_state),
}


@pytest.mark.parametrize("file", FILES)
def test_a_tensor_of_another_shape_is_refused(file):
    fmt, place, make = FILES[file]
    state = make()
    keys = [key for key in state if not key.endswith("num_batches_tracked")]
    for number, key in enumerate(keys[:: max(len(keys) // 20, 1)]):
        wrong = (torch.ones([]), torch.ones(7), torch.ones(0, 3), torch.ones(2, 5, 3, 3, 3))[number % 4]
        if wrong.numel() == state[key].numel():
            continue  # one number is one number
        with pytest.raises(ValueError) as refused:
            fmt.load({place: state | {key: wrong}}, None)
        assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    "content", [{1: 2}, {"g_ema": 3}, {"state_dict": {"linear0.weight": None}}, {"G.pth": [1]}, [], 7]
)
def test_what_is_no_state_dict_is_not_recognised(content):
    for fmt in (biggan_pytorch, gan_zoo, huggingface, rosinality, studiogan, style_based_gan):
        assert not fmt.recognises(content)
        assert not fmt.recognises({"generator": {5: content}, "netG": content, "g": {"input.input": content}})
