"""What every published checkpoint becomes, and how tensors get from their names to ours and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..config import FAMILIES, DataOptions, ModelOptions
from ..training.options import TrainingOptions

NETWORKS = ("G", "D", "G_ema")
NAMED = 5  # how many keys an error names


@dataclass
class Checkpoint:
    """Networks from any source, as this package's modules in evaluation mode on the CPU.

    Attributes:
        family: One of `gankern.models.config.FAMILIES`.
        model: The options that the networks were built from.
        source: Name of the format that they came from.
        G, D, G_ema: The networks, or None where the file has none.
        preset: The published configuration whose networks these are, or None.
        notes: What a user should know: what was inferred, assumed or left out.
        training, data: The options that a snapshot of this package's was trained with, and on what, or None.
    """

    family: str
    model: ModelOptions
    source: str
    G: nn.Module | None = None
    D: nn.Module | None = None
    G_ema: nn.Module | None = None
    preset: str | None = None
    notes: list[str] = field(default_factory=list)
    training: TrainingOptions | None = None
    data: DataOptions | None = None

    def networks(self) -> dict[str, nn.Module]:
        """Those that there are, by name."""
        found = {name: getattr(self, name) for name in NETWORKS}
        return {name: net for name, net in found.items() if net is not None}


class Format(NamedTuple):
    """One kind of file.

    Attributes:
        name: What `gankern convert --to` calls it.
        recognises: Whether what `read` found in a file is of this kind.
        load: From that, and which of `NETWORKS` to load (None for all), to a checkpoint. A file of one generator alone
            gives it the name asked for, G_ema by default.
        save: Writes a checkpoint to a path, or None where the format is only read.
    """

    name: str
    recognises: Callable[[Any], bool]
    load: Callable[[Any, str | None], Checkpoint]
    save: Callable[[Checkpoint, Path], None] | None = None


def _same(x: Tensor) -> Tensor:
    return x


class Entry(NamedTuple):
    """Where one of our tensors is in their state: its key, and how to read and to write it."""

    key: str
    read: Callable[[Tensor], Tensor] = _same
    write: Callable[[Tensor], Tensor] = _same


# From a key of ours to where theirs is, or to None for a buffer that they do not store.
Table = Callable[[str], Entry | str | None]


def assemble(
    source: str,
    family: str,
    model: ModelOptions,
    states: Mapping[str, Mapping[str, Tensor]],
    tables: Mapping[str, Table],
    notes: Sequence[str] = (),
    ignored: Callable[[str], bool] = lambda key: False,
) -> Checkpoint:
    """Builds the networks that `states` has and fills them; every tensor of theirs must have its place.

    Args:
        source: Name of the format.
        family, model: What to build.
        states: Their tensors by `NETWORKS` and key.
        tables: For "G" (and G_ema) and "D": where each of our tensors is in theirs.
        notes: For the checkpoint.
        ignored: Keys of theirs that hold nothing, e.g. constants that ours computes.

    Raises:
        ValueError: Keys are missing or unknown, or shapes do not fit; they are named.
    """
    family_of = FAMILIES[family]
    with torch.device("meta"):  # before anything is allocated: does the file fit the options that were read from it?
        G, D = family_of.build(model)
    shapes = {"G": G, "G_ema": G, "D": D}
    found = {}
    for name, state in states.items():
        found[name] = _collect(f"{source}: {name}", shapes[name], state, tables[name[0]], ignored)
    checkpoint = Checkpoint(family, model, source, preset=preset_of(family, model), notes=list(notes))
    for name, state in found.items():
        net = family_of.build(model)[name[0] == "D"]
        net.load_state_dict(state, strict=False)  # `_collect` is stricter
        setattr(checkpoint, name, net.eval())
    return checkpoint


def chosen(source: str, found: Mapping[str, Any], which: str | None) -> dict[str, Any]:
    """Of what a file has, by `NETWORKS`, the network asked for, or all; a lone generator takes the name asked for.

    Raises:
        ValueError: There is no such network.
    """
    if which == "G" and list(found) == ["G_ema"]:
        return {"G": found["G_ema"]}
    if which is not None and which not in found:
        raise ValueError(f"{source}: the file has {', '.join(found)}, not {which}")
    return {name: value for name, value in found.items() if which in (None, name)}


def disassemble(net: nn.Module, table: Table) -> dict[str, Tensor]:
    """Our network's tensors under their keys and in their layout, ready to be written."""
    state = {}
    for key, value in net.state_dict().items():
        entry = _entry(table, key)
        if entry is not None:
            state[entry.key] = entry.write(value.detach().cpu()).clone(memory_format=torch.contiguous_format)
    return state


def preset_of(family: str, model: ModelOptions) -> str | None:
    """The published configuration that has these networks; the first, where several differ in their training alone."""
    entry = FAMILIES[family]
    sizes = model.img_resolution, model.img_channels, model.c_dim
    for name, row in entry.presets.items():
        with suppress(ValueError):  # a row may not have this size
            if entry.resolve(row, *sizes, 1, model.precision, model.base_size)[0] == model:
                return name
    return None


def refuse_keys(what: str, missing: Iterable[str], unknown: Iterable[str]) -> None:
    """Raises ValueError if there are any, with their names."""
    problems = [f"{verb} {_named(list(keys))}" for verb, keys in (("lacks", missing), ("has unknown", unknown)) if keys]
    if problems:
        raise ValueError(f"{what} {' and '.join(problems)}")


def _collect(
    what: str,
    net: nn.Module,
    theirs: Mapping[str, Tensor],
    table: Table,
    ignored: Callable[[str], bool],
) -> dict[str, Tensor]:
    """Their tensors under our keys, after checking that nothing is missing, left over or of another shape."""
    parameters = {key for key, _ in net.named_parameters()}
    entries = {key: _entry(table, key) for key in net.state_dict()}
    missing = [entry.key for entry in entries.values() if entry and entry.key not in theirs]
    missing += [key for key, entry in entries.items() if entry is None and key in parameters]
    used = {entry.key for entry in entries.values() if entry}
    refuse_keys(what, missing, [key for key in theirs if key not in used and not ignored(key)])
    state = {}
    for key, ours in net.state_dict().items():
        entry = entries[key]
        if entry is None:
            continue
        value = _read(entry, theirs[entry.key])
        if value is None or value.shape != ours.shape:
            got, expected = list(theirs[entry.key].shape), list(ours.shape)
            raise ValueError(f"{what}: {entry.key} must give shape {expected}, got {got}")
        state[key] = value
    held = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in state.values()}
    if sum(value.nbytes for value in state.values()) > 2 * sum(held.values()):
        raise ValueError(f"{what} claims many times the numbers that the file holds")
    return state


def _read(entry: Entry, value: Tensor) -> Tensor | None:
    """The tensor in our layout, or None where its shape does not allow that."""
    try:
        return entry.read(value)
    except (RuntimeError, IndexError, TypeError, ZeroDivisionError):
        return None


def _entry(table: Table, key: str) -> Entry | None:
    found = table(key)
    return Entry(found) if isinstance(found, str) else found


def _named(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return ", ".join(key[:80] for key in keys[:NAMED]) + more
