"""State dicts as files hold them: what is one, what its keys and shapes say, which of its tensors are constants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoint import refuse_keys

State = Mapping[str, Tensor]
MEAN_OF = 10_000  # latents: the mean of w then errs by a hundredth of the spread of w


def is_state(value: Any, *keys: str) -> bool:
    """Whether a value is a state dict with one of these keys, which no other format has."""
    if not isinstance(value, dict) or not any(key in value for key in keys):
        return False
    return all(isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in value.items())


def count(state: State, prefix: str) -> int:
    """How many numbered parts there are, `{prefix}0.` and so on: the highest number and one more, or 0."""
    numbers = [key.removeprefix(prefix).partition(".")[0] for key in state if key.startswith(prefix)]
    return max((int(number) + 1 for number in numbers if number.isdecimal() and len(number) < 4), default=0)


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Turns the look-up of a key that a state dict lacks into an error that names it, and so for shapes."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{what} lacks {error.args[0]}") from error
    except (IndexError, TypeError) as error:
        raise ValueError(f"{what} has tensors of unexpected shapes ({error})") from error


def without_constants(what: str, state: State, constants: State) -> dict[str, Tensor]:
    """A state dict without the tensors whose values are known beforehand.

    Raises:
        ValueError: One of them is missing or has other values, which the networks here cannot take.
    """
    refuse_keys(what, [key for key in constants if key not in state], ())
    for key, value in constants.items():
        if state[key].shape != value.shape or not torch.allclose(state[key].float(), value, atol=1e-6):
            raise ValueError(f"{what}: {key} must be the published constant of shape {list(value.shape)}")
    return {key: value for key, value in state.items() if key not in constants}


def only(what: str, values: Mapping[str, Any]) -> Any:
    """The value on which all networks of a file agree.

    Raises:
        ValueError: They do not.
    """
    found = list(values.values())
    if any(value != found[0] for value in found):
        raise ValueError(f"networks of one {what} expected, got {', '.join(f'{v} in {k}' for k, v in values.items())}")
    return found[0]


@torch.no_grad()
def mean_w(mapping: nn.Module, z_dim: int) -> Tensor:
    """The mean of w [w_dim] over `MEAN_OF` latents, always the same ones."""
    z = torch.randn([MEAN_OF, z_dim], generator=torch.Generator().manual_seed(0))
    return mapping(z)[:, 0].mean(dim=0)
