"""Structures that a network still calls background: noticed after a third of a run, said loudly."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from volta3d.downstream.segmentation.labelled import LabelledScans

PART = 3  # the check is made after one part in so many of the epochs, and after the last
SCANS = 2  # looked at for each structure


def check_epochs(epochs: int) -> tuple[int, int]:
    """After which epochs it is checked, counted from 1."""
    return math.ceil(epochs / PART), epochs


def not_begun(
    predict: Callable[[Tensor], Tensor], scans: LabelledScans, indices: Sequence[int]
) -> list[str]:
    """Names of structures of which no voxel is found where they are, in the first scans with them.

    Args:
        predict: a prepared volume to class probabilities [C, E, E, E].
        scans: all labelled scans.
        indices: those that may be looked at; training scans will do, as a network that has begun
            outlines these first.
    """
    wanted = {
        structure: [i for i in indices if len(scans.voxels(i)[structure])][:SCANS]
        for structure in range(len(scans.structures))
    }
    overlap = dict.fromkeys(wanted, 0)
    for index in sorted({i for chosen in wanted.values() for i in chosen}):
        classes, truth = predict(scans.volume(index)).argmax(0), scans.label(index)
        for structure in wanted:
            overlap[structure] += int(((classes == structure + 1) & (truth == structure + 1)).sum())
    return [scans.structures[s].name for s, chosen in wanted.items() if chosen and not overlap[s]]


def sentence(structures: Sequence[str], epoch: int, epochs: int) -> str:
    """What is said of them."""
    names = ", ".join(structures)
    if epoch < epochs:
        return (
            f"{names}: nothing outlined after {epoch} of {epochs} epochs. If that stays so, raise "
            "lr, epochs or crops.foreground"
        )
    return f"{names}: never begun, no voxel right at the end. Raise lr, epochs or crops.foreground"


def finding(structures: Sequence[str], epoch: int, epochs: int) -> Mapping[str, object]:
    """The record of metrics.jsonl."""
    return {
        "kind": "finding",
        "code": "structure-not-begun",
        "epoch": epoch,
        "structures": list(structures),
        "what": sentence(structures, epoch, epochs),
    }
