"""This package's own files: safetensors with the options as JSON in the header, and snapshots of runs.

The tensors are "G.…", "D.…" and "G_ema.…" under the networks' own keys. The header's entry `gankern` is JSON: format,
family, model (the options), source, preset, notes, and of networks that grow, grown: {network: [resolution, fading]}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..config import FAMILIES, Config
from ..training.atomic import write_atomically
from ..training.checkpoint import READABLE, checksum
from .checkpoint import NETWORKS, Checkpoint, Format, assemble, chosen
from .reading import NEEDS_SAFETENSORS

NAME = "gankern"
VERSION = 1
MAX_OPTION = 1 << 20  # of the networks; larger than any


def _recognises(content: Any) -> bool:
    return isinstance(content, dict) and (_is_own(content) or _is_snapshot(content))


def _is_own(content: Mapping[str, Any]) -> bool:
    metadata = content.get("metadata")
    return content.keys() == {"tensors", "metadata"} and isinstance(metadata, dict) and NAME in metadata


def _is_snapshot(content: Mapping[str, Any]) -> bool:
    return {"format", "config", "state", "sha256"} <= content.keys()


def _load(content: Any, which: str | None) -> Checkpoint:
    return _load_own(content, which) if _is_own(content) else _load_snapshot(content, which)


def _load_own(content: Mapping[str, Any], which: str | None) -> Checkpoint:
    header = json.loads(content["metadata"][NAME])
    if header.get("format") != VERSION:
        raise ValueError(f"{NAME}: format {header.get('format')}, expected {VERSION}")
    family = header["family"]
    if family not in FAMILIES:
        raise ValueError(f"{NAME}: family must be one of {', '.join(FAMILIES)}, got {family!r}")
    model = FAMILIES[family].options(**header["model"])
    if max([0, *(value for value in header["model"].values() if isinstance(value, int))]) > MAX_OPTION:
        raise ValueError(f"{NAME}: an option of the networks is larger than {MAX_OPTION}")
    states: dict[str, dict[str, Tensor]] = {}
    for key, value in content["tensors"].items():
        name, _, rest = key.partition(".")
        if name not in NETWORKS:
            raise ValueError(f"{NAME}: the tensor {key[:80]} belongs to none of {', '.join(NETWORKS)}")
        states.setdefault(name, {})[rest] = value
    checkpoint = _assembled(family, model, chosen(NAME, states, which), header.get("grown", {}))
    checkpoint.source, checkpoint.notes = header["source"], list(header["notes"])
    return checkpoint


def _load_snapshot(content: Mapping[str, Any], which: str | None) -> Checkpoint:
    if content["format"] not in READABLE:
        raise ValueError(f"{NAME}: a snapshot of format {content['format']}, expected one of {READABLE}")
    if checksum([content["format"], content["config"], content["state"]]) != content["sha256"]:
        raise ValueError(f"{NAME}: the snapshot is damaged: its checksum does not match its content")
    config = Config.from_json(json.loads(content["config"]))
    state = content["state"]
    grown = dict.fromkeys(NETWORKS, state["grown"]) if state.get("grown") else {}
    states = chosen(NAME, {name: state[name] for name in NETWORKS}, which)
    checkpoint = _assembled(config.family, config.model, states, grown)
    checkpoint.preset, checkpoint.training, checkpoint.data = config.preset, config.training, config.data
    return checkpoint


def _assembled(family: str, model: Any, states: Mapping[str, Any], grown: Mapping[str, Any]) -> Checkpoint:
    checkpoint = assemble(NAME, family, model, states, {"G": str, "D": str})
    for name, net in checkpoint.networks().items():
        if name in grown:
            growing: Any = net
            growing.grow(*grown[name])
    return checkpoint


def _save(checkpoint: Checkpoint, path: Path) -> None:
    try:
        from safetensors.torch import save
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(NEEDS_SAFETENSORS) from error
    networks = checkpoint.networks()
    tensors = {f"{name}.{key}": value for name, net in networks.items() for key, value in _state(net).items()}
    header = {"format": VERSION, "family": checkpoint.family, "model": asdict(checkpoint.model)}  # type: ignore[call-overload]
    header |= {"source": checkpoint.source, "preset": checkpoint.preset, "notes": checkpoint.notes}
    grown = {name: [net.resolution, net.fading] for name, net in networks.items() if hasattr(net, "grow")}
    if grown:
        header["grown"] = grown
    content = save(tensors, {NAME: json.dumps(header)})  # one entry: the order of several is left to chance
    write_atomically(path, lambda file: file.write(content))


def _state(net: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}


GANKERN = Format(NAME, _recognises, _load, _save)
