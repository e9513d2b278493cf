"""Label maps: whole numbers on exactly the grid of their scan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from volta3d.files import content_hash
from volta3d.prepare.findings import Finding, Refused
from volta3d.prepare.geometry import same_grid, to_ras
from volta3d.prepare.image import image_sha256, read_image
from volta3d.prepare.scan import Label, MergedLabel, Scan, label_files_of

LARGEST = 65535
PARCELS = 30
BRAIN_MM3 = 400_000.0
FEW = 10  # names; an atlas of many is rarely complete in one brain
FIX = "Correct the label map, or take it out of the data set to prepare the scan without it"


def read_labels(
    label: Label, affine: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, list[Finding]]:
    """A label map as uint16 [I, J, K] in the RAS order of its scan.

    Args:
        label: its file, or its files when each structure has one.
        affine, shape: the grid of the scan after ``to_ras``.

    Raises:
        Refused: unreadable, not whole numbers, on another grid than its scan, or masks that
            overlap or whose sides are swapped.
    """
    if isinstance(label, MergedLabel):
        return _merge(label, affine, shape)
    return _read(label, affine, shape)


def hash_label_files(label: Label | None) -> str:
    """The SHA-256 of a label map's file, or of each of its files with ; between; empty without one.

    Raises:
        OSError: it cannot be read.
    """
    return ";".join(image_sha256(path) for path in label_files_of(label))


def label_digest(scan: Scan, files_sha256: str) -> str:
    """A hash of a scan's label map and of what its values are called; empty without one.

    Args:
        scan: the scan.
        files_sha256: of its label map, see ``hash_label_files``.
    """
    files = files_sha256.split(";") if files_sha256 else []
    if not files or (len(files) == 1 and not scan.label_names):
        return "".join(files)
    values = [v for v, _ in scan.label.parts] if isinstance(scan.label, MergedLabel) else []
    return content_hash([files, values, sorted(scan.label_names.items())])


def about_names(labels: np.ndarray | None, names: Mapping[int, str]) -> list[Finding]:
    """Findings on values without a name, and on names without a voxel.

    Args:
        labels: a map in the cube, None for a scan without one.
        names: of the data set's values; without any, nothing is said.
    """
    if labels is None or not names:
        return []
    present = {int(v) for v in np.unique(labels)} - {0}
    strange, absent = sorted(present - set(names)), sorted(set(names) - present - {0})
    findings = []
    if strange:
        listed = ", ".join(map(str, strange[:8])) + (", ..." if len(strange) > 8 else "")
        what = f"{len(strange)} label values without a name: {listed}"
        fix = "Name them in dseg.tsv, or correct the label map"
        findings.append(Finding("warning", "unexpected-label", what, fix))
    if absent and len(names) <= FEW:
        what = f"No voxel of {', '.join(names[v] for v in absent)}"
        findings.append(Finding("info", "absent-label", what))
    return findings


def _merge(
    label: MergedLabel, affine: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, list[Finding]]:
    """Masks of one structure each as one map; a mask is where a file is above 0."""
    merged, findings, middles = np.zeros(shape, np.uint16), list[Finding](), dict[int, float]()
    for value, path in label.parts:
        mask, found = _read(path, affine, shape)
        findings += [f for f in found if f not in findings]
        if (merged[mask > 0] > 0).any():
            raise Refused("label-overlap", f"Label map {path.name} overlaps another one", FIX)
        merged[mask > 0] = value
        if mask.any():
            voxel = [float(axis.mean()) for axis in np.nonzero(mask)]
            middles[value] = float(affine[0] @ [*voxel, 1.0])
    right, left = (middles.get(v) for v in label.sides) if label.sides else (None, None)
    if right is not None and left is not None and right <= left:
        what = "The mask called left lies to the right of the one called right"
        raise Refused("label-sides", what, FIX)
    return merged, findings


def _read(
    path: Path, affine: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, list[Finding]]:
    try:
        image = read_image(path)
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
