"""Where a training of a segmentation stands, published whole and checked when read back."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from volta3d.errors import CheckpointError, VoltaError
from volta3d.files import atomic_folder, clean_partial, read_json, sha256, write_json
from volta3d.pretrain.checkpoint import optimizer_tensors, restore_optimizer

FOLDER = "checkpoint"
FILES = ("network", "optimizer", "best", "average")


@dataclass
class Kept:
    """What a resumed training needs besides weights.

    Args:
        epoch: epochs done.
        seconds: spent on them.
        best_epoch, best_dice, best: the epoch that did best on the scans judged, and its weights.
    """

    epoch: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_dice: float | None = None
    best: dict[str, Tensor] | None = None


def save_kept(
    folder: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    kept: Kept,
    identity: dict[str, Any],
    average: nn.Module | None = None,
) -> None:
    """Publish ``folder/checkpoint`` in place of the last one.

    Args:
        folder: of the training.
        network, optimizer: as they stand.
        kept: the rest.
        identity: what a resumed training must share.
        average: the moving average of the network, if there is one.

    Raises:
        VoltaError: the disk is full; the last one stays.
    """
    tensors = (
        _own(network.state_dict()),
        optimizer_tensors(optimizer),
        _own(kept.best or {}),
        _own(average.state_dict()) if average is not None else {},
    )
    with atomic_folder(folder / FOLDER) as temporary:
        sums = {}
        for name, content in zip(FILES, tensors, strict=True):
            file = temporary / f"{name}.safetensors"
            save_file({k: v.cpu() for k, v in content.items()}, file)
            sums[name] = sha256(file)
        state = {
            "epoch": kept.epoch,
            "seconds": kept.seconds,
            "best_epoch": kept.best_epoch,
            "best_dice": kept.best_dice,
        }
        write_json(temporary / "state.json", {"kept": state, "identity": identity, "sha256": sums})


def load_kept(
    folder: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    identity: dict[str, Any],
    average: nn.Module | None = None,
    earlier: Sequence[dict[str, Any]] = (),
) -> Kept:
    """Put a checkpoint back; a fresh start when there is none, or only a damaged one (warned of).

    Args:
        folder: of the training.
        network, optimizer: they get the state they had.
        identity: what the checkpoint must share.
        average: the moving average of the network, which gets its state too.
        earlier: what it may share instead, as earlier versions wrote it.

    Raises:
        CheckpointError: it is of other settings or data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clean_partial(folder)
    path = folder / FOLDER
    if not path.is_dir():
        return Kept()
    try:
        state = read_json(path / "state.json")
        if any(sha256(path / f"{n}.safetensors") != state["sha256"][n] for n in FILES):
            raise CheckpointError("A checkpoint file is damaged", where=path)
        weights, moments, best, mean = (load_file(path / f"{n}.safetensors") for n in FILES)
    except (VoltaError, OSError, SafetensorError, KeyError, TypeError) as error:
        warnings.warn(f"Training starts again: {error}", stacklevel=2)
        return Kept()
    if state["identity"] not in (identity, *earlier):
        raise CheckpointError(
            "This checkpoint was written with other settings or data",
            where=path,
            fix="Resume with the original ones, or start a new run folder",
        )
    network.load_state_dict(weights)
    if average is not None:
        average.load_state_dict(mean)
    restore_optimizer(optimizer, moments)
    _lay_like_parameters(optimizer)
    return Kept(**state["kept"], best=best or None)


def _lay_like_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Moments in the memory order of their parameters, which a fused step goes through as it is."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def drop_kept(folder: Path) -> None:
    """Remove the checkpoint of a finished training."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


def _own(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().contiguous().clone() for name, value in state.items()}
