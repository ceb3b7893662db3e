"""Freeze-D: the discriminator's layers next to the image keep what they have learned before."""

from typing import Any

from torch import nn


def freeze_layers(D: Any, number: int) -> None:
    """Makes the parameters of a discriminator's first layers buffers of the same names, which nothing trains.

    Optimiser, gradients and regularisers see parameters alone, and a state dict holds both alike.

    Args:
        D: The discriminator, with layers_from_image(); changed in place.
        number: How many of them, counted from the image, the highest resolution first.

    Raises:
        ValueError: D has not so many.

    Source: Mo et al., "Freeze the Discriminator: a Simple Baseline for Fine-Tuning GANs", 2020, section 3; the counting
        of layers: the published code of Karras et al., "Training Generative Adversarial Networks with Limited Data",
        2020, appendix C.
    """
    layers: list[nn.Module] = D.layers_from_image()
    if number > len(layers):
        raise ValueError(f"training options: freeze_d must be at most {len(layers)}, the layers of D, got {number}")
    for layer in layers[:number]:
        for module in layer.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                module.register_buffer(name, parameter.detach())
