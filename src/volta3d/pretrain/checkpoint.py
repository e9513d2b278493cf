"""Checkpoints: safetensors and JSON, published whole, checked by hash, and read back exactly."""

from __future__ import annotations

import re
import shutil
import warnings
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from volta3d.errors import CheckpointError, VoltaError
from volta3d.files import (
    atomic_folder,
    clean_partial,
    content_hash,
    read_json,
    sha256,
    write_json,
)
from volta3d.pretrain.step import SelfDistillation

FORMAT = 2  # 1: masks leant to the far corner, loss terms of weight 0 were trained
FILES = ("model.safetensors", "optimizer.safetensors")
_FOLDER = re.compile(r"step-(\d+)")


@dataclass
class Progress:
    """Where a run stands; everything a resumed run needs besides tensors."""

    step: int = 0  # optimiser steps done
    epoch: int = 0  # the epoch under way, counted from 0
    windows: int = 0  # optimiser steps done in that epoch
    alarms: dict[str, int] = field(default_factory=dict)  # consecutive hits per alarm


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors, keyed by the parameter's position."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value.detach().contiguous()
        for index, values in state.items()
        for name, value in values.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put named tensors back.

    Raises:
        CheckpointError: a tensor is missing, unknown or of the wrong shape.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    for position, values in state.items():
        if position >= len(parameters) or set(values) != {"step", "exp_avg", "exp_avg_sq"}:
            raise CheckpointError("The optimiser's state does not fit this run", fix=_RESTORE)
        if values["exp_avg"].shape != parameters[position].shape:
            raise CheckpointError("The optimiser's state has other shapes", fix=_RESTORE)
    content = optimizer.state_dict()
    content["state"] = state
    optimizer.load_state_dict(content)


class OtherRelease(CheckpointError):
    """A whole checkpoint of a format that this release doesn't read; never passed over."""


_RESTORE = "Use the configuration the run was started with, or start a new run folder"


def save(
    folder: Path,
    *,
    distillation: SelfDistillation,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    identity: dict[str, Any],
    keep: int,
) -> Path:
    """Publish ``folder/step-N`` and remove the oldest beyond ``keep``.

    ``identity`` holds the hashes of configuration and data that a resumed run must share.

    Raises:
        VoltaError: the disk is full; earlier checkpoints stay as they are.
    """
    target = folder / f"step-{progress.step:08d}"
    with atomic_folder(target) as temporary:
        save_file(_contiguous(distillation.state_dict()), temporary / FILES[0])
        save_file(optimizer_tensors(optimizer), temporary / FILES[1])
        state = {
            "format": FORMAT,
            "progress": asdict(progress),
            "identity": identity,
            "trained": sorted(optimizer_tensors(optimizer)),
            "sha256": {name: sha256(temporary / name) for name in FILES},
        }
        write_json(temporary / "state.json", {**state, "seal": content_hash(state)})
    # a damaged newer one, passed over on resume, must not push out the one just written
    others = [path for path in available(folder) if path != target]
    for old in others[keep - 1 :]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def _contiguous(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().contiguous().clone() for name, value in state.items()}


def available(folder: Path) -> list[Path]:
    """Checkpoint folders, newest first; unfinished ones are not among them."""
    if not folder.is_dir():
        return []
    matches = [(_FOLDER.fullmatch(p.name), p) for p in folder.iterdir() if p.is_dir()]
    found = [(int(match[1]), path) for match, path in matches if match]
    return [path for _, path in sorted(found, reverse=True)]


def load_newest(
    folder: Path,
    *,
    distillation: SelfDistillation,
    optimizer: torch.optim.Optimizer,
    identity: dict[str, Any],
) -> Progress | None:
    """Restore the newest checkpoint that is whole; None when there never was one.

    A damaged checkpoint is passed over with a warning.

    Raises:
        CheckpointError: every checkpoint is damaged, or the configuration or data differ.
        OtherRelease: the newest was written by a release with another format.
    """
    clean_partial(folder) if folder.is_dir() else None
    candidates = available(folder)
    for path in candidates:
        try:
            state, model, optimiser = read(path)
        except OtherRelease:
            raise
        except VoltaError as error:
            warnings.warn(f"Checkpoint passed over: {error}", stacklevel=2)
            continue
        _refuse_difference(state["identity"], identity, path)
        _restore_model(distillation, model, path)
        restore_optimizer(optimizer, optimiser)
        return Progress(**state["progress"])
    if candidates:
        raise CheckpointError(
            f"None of the {len(candidates)} checkpoints is whole",
            where=folder,
            fix="Restore one from a backup, or start again in a new run folder",
        )
    return None


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """A checkpoint's state, weights and optimiser tensors, everything checked against its hashes.

    Raises:
        CheckpointError, VoltaError: missing, damaged or changed.
        OtherRelease: whole, and of another format.
    """
    state = read_json(path / "state.json")
    if not isinstance(state, dict) or not isinstance(state.get("format"), int):
        raise CheckpointError("state.json names no format", where=path, fix=_RESTORE)
    _refuse_other_release(state, path)
    for key in ("progress", "identity", "sha256", "trained", "seal"):
        if key not in state:
            raise CheckpointError(f"'{key}' is missing from state.json", where=path, fix=_RESTORE)
    if state.pop("seal") != content_hash(state):
        raise CheckpointError("state.json was changed or is damaged", where=path, fix=_RESTORE)
    if set(state["progress"]) != {f.name for f in fields(Progress)}:
        raise CheckpointError("The progress in state.json is incomplete", where=path, fix=_RESTORE)
    for name in FILES:
        expected = state["sha256"].get(name)
        if not (path / name).is_file() or sha256(path / name) != expected:
            raise CheckpointError("A checkpoint file is damaged", where=path / name, fix=_RESTORE)
    try:
        model = load_file(path / "model.safetensors")
        optimiser = load_file(path / "optimizer.safetensors")
    except SafetensorError as error:
        raise CheckpointError(f"Not readable: {error}", where=path, fix=_RESTORE) from error
    if sorted(optimiser) != state["trained"]:
        raise CheckpointError("The optimiser's state is incomplete", where=path, fix=_RESTORE)
    return state, model, optimiser


def _refuse_other_release(state: dict[str, Any], path: Path) -> None:
    found = state["format"]
    content = {k: v for k, v in state.items() if k != "seal"}
    if found == FORMAT or state.get("seal") != content_hash(content):
        return  # with a broken seal it is damaged, whatever it says of itself
    newer = "Update volta3d, or start a new run folder"
    older = (
        "Finish the run with the release that started it (environment.json names it), or start "
        "a new run folder; its encoder folder stays readable"
    )
    raise OtherRelease(
        f"The checkpoint has format {found}, this release reads and writes {FORMAT}",
        where=path,
        fix=newer if found > FORMAT else older,
    )


def _refuse_difference(saved: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        items: dict[str, Any] = {}
        for key, value in content.items():
            nested = isinstance(value, dict)
            items |= flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
        return items

    before, after = flat(saved), flat(now)
    keys = [k for k in sorted(before.keys() | after.keys()) if before.get(k) != after.get(k)]
    if keys:
        shown = "; ".join(f"{k}: {before.get(k)} -> {after.get(k)}" for k in keys[:8])
        raise CheckpointError(
            f"This run was started with other settings or data: {shown}",
            where=path,
            fix="Resume with the original ones, or start a new run folder",
        )


def _restore_model(distillation: SelfDistillation, model: dict[str, Tensor], path: Path) -> None:
    expected = distillation.state_dict()
    missing = sorted(expected.keys() - model.keys())
    unknown = sorted(model.keys() - expected.keys())
    wrong = [k for k in expected.keys() & model.keys() if expected[k].shape != model[k].shape]
    if missing or unknown or wrong:
        what = f"missing {missing[:3]}, unknown {unknown[:3]}, other shape {wrong[:3]}"
        raise CheckpointError(f"The weights do not fit: {what}", where=path, fix=_RESTORE)
    distillation.load_state_dict(model)
