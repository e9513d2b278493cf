"""Label maps: whole numbers on exactly the grid of their scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from volta3d.prepare.findings import Finding, Refused
from volta3d.prepare.geometry import same_grid, to_ras
from volta3d.prepare.nifti import read_nifti

LARGEST = 65535
PARCELS = 30
BRAIN_MM3 = 400_000.0
FIX = "Correct the label map, or take it out of the data set to prepare the scan without it"


def read_labels(
    path: Path, affine: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, list[Finding]]:
    """A label map as uint16 [I, J, K] in the RAS order of its scan.

    Args:
        path: its file.
        affine, shape: the grid of the scan after ``to_ras``.

    Raises:
        Refused: unreadable, not whole numbers, or on another grid than its scan.
    """
    try:
        image = read_nifti(path)
    except Refused as error:
        what = f"Label map {path.name}: {error.finding.what}"
        raise Refused("label-" + error.finding.code, what, FIX) from error
    data, own = to_ras(image.data, image.affine)
    if not same_grid(affine, own, shape, data.shape):
        what = f"Label map {path.name} is not on the grid of its scan"
        raise Refused("label-grid", what, FIX)
    findings = []
    if data.dtype.kind == "f":
        if not np.isfinite(data).all() or np.abs(data - np.round(data)).max() > 1e-3:
            raise Refused("label-values", f"Label map {path.name} has fractions or NaN", FIX)
        findings.append(Finding("info", "float-labels", "Labels were stored as fractions"))
        data = np.round(data)
    if data.min() < 0 or data.max() > LARGEST:
        raise Refused("label-values", f"Label map {path.name} leaves 0 to {LARGEST}", FIX)
    if not data.any():
        findings.append(Finding("warning", "empty-label", "The label map is empty"))
    return np.ascontiguousarray(data, np.uint16), findings


def brain_volume(labels: np.ndarray, affine: np.ndarray) -> float:
    """The volume of all labels in mm3 if they are a parcellation of the whole brain, else NaN.

    Counted as one: at least 30 different labels that together fill at least 400 ml. What the
    parcellation names (ventricles, brain stem) counts.
    """
    counts = np.bincount(labels.ravel())
    counts[0] = 0
    volume = float(counts.sum() * abs(np.linalg.det(affine[:3, :3])))
    whole = np.count_nonzero(counts) >= PARCELS and volume >= BRAIN_MM3
    return volume if whole else float("nan")


def lost_labels(native: np.ndarray, prepared: np.ndarray) -> list[Finding]:
    """A finding if labels of the native map have no voxel left in the cube."""
    before, after = (np.bincount(m.ravel(), minlength=LARGEST + 1)[1:] for m in (native, prepared))
    lost = np.flatnonzero((before > 0) & (after == 0)) + 1
    if not len(lost):
        return []
    what = f"{len(lost)} of {np.count_nonzero(before)} labels have no voxel in the cube"
    return [Finding("warning", "labels-lost", what, "Prepare with a larger size or finer spacing")]
