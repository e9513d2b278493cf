"""Label maps that would teach something wrong: a missing side, sides swapped or very unequal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from volta3d.downstream.segmentation.structures import Structure, class_counts, pairs
from volta3d.prepare.findings import Finding

FIX = "Correct the label map and prepare again, or leave the scan out"


def check_labels(
    classes: np.ndarray,
    affine: np.ndarray,
    structures: Sequence[Structure],
    side_ratio: float,
    *,
    absent: bool = False,
) -> Finding | None:
    """The first reason not to train or test on a label map; None if there is none.

    Args:
        classes: [D, H, W], 0 background, 1.. the structures.
        affine: 4x4 from voxels to world mm (RAS: x grows to the right).
        structures: in the order of the classes.
        side_ratio: sides may differ by this factor in volume.
        absent: whether a structure may be missing, as a tumour may; its side is then not compared.
    """
    counts = class_counts(classes, structures)[1:]
    missing = [s.name for s, n in zip(structures, counts, strict=True) if n == 0]
    if missing and not absent:
        what, fix = f"{', '.join(missing)} has no voxel", FIX
        if len(missing) == len(structures):
            what = "None of the structures has a voxel"
        else:
            fix += "; where a structure need not be there: --set absent=allow"
        return Finding("error", "structure-missing", what, fix)
    partner = pairs(structures)
    for index, structure in enumerate(structures):
        if partner is None or structure.side != "left":
            continue
        other = partner[index + 1] - 1
        if not (counts[index] and counts[other]):
            continue
        left, right = _middle(classes, index + 1, affine), _middle(classes, other + 1, affine)
        if left >= right:
            what = f"{structure.name} lies to the right of {structures[other].name}"
            fix = "Left and right are swapped in the label map or its header; correct it"
            return Finding("error", "sides-swapped", what, fix + " and prepare again")
        ratio = max(counts[index], counts[other]) / min(counts[index], counts[other])
        if ratio > side_ratio:
            what = f"{structure.name} and the other side differ by a factor of {ratio:.1f}"
            fix = f"Look at the label map; if it is right, use --set side_ratio={ratio + 0.1:.1f}"
            return Finding("error", "sides-unequal", what, fix)
    return None


def _middle(classes: np.ndarray, index: int, affine: np.ndarray) -> float:
    """The mean x of a class in world mm."""
    voxels = np.argwhere(classes == index).mean(axis=0)
    return float(affine[0, :3] @ voxels + affine[0, 3])
