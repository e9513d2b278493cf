"""Folders of label maps: volta3d's, FreeSurfer's or anybody's, paired with their reference."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from volta3d.downstream.segmentation.native import Grid
from volta3d.downstream.segmentation.structures import Structure, classes_of, resolve
from volta3d.errors import VoltaError
from volta3d.prepare.findings import Refused
from volta3d.prepare.geometry import mapping_to, same_grid
from volta3d.prepare.nifti import is_nifti, read_nifti, stem
from volta3d.prepare.resample import resample_nearest
from volta3d.prepare.tables import label_names

FIX = "Correct the label map, or take it out of the folder"
ENTITIES = ("sub", "ses", "acq", "run")


@dataclass(frozen=True)
class LabelSet:
    """The label maps below a folder.

    Args:
        folder: where.
        files: their paths below it, by the key that pairs them with others.
        names: of the label values, from ``dseg.tsv``.
    """

    folder: Path
    files: dict[str, Path]
    names: dict[int, str]

    @classmethod
    def open(cls, folder: Path | str) -> LabelSet:
        """Find the label maps.

        Raises:
            VoltaError: no folder, no label map, or two that could be the same scan's.
        """
        folder = Path(folder)
        found = sorted(p for p in folder.rglob("*") if p.is_file() and is_nifti(p))
        found = [p for p in found if stem(p).lower().split("_")[-1] not in ("t1w", "bold")]
        if not found:
            raise VoltaError(
                "No label maps there",
                where=folder,
                fix="Name a folder with label maps (.nii.gz), one for each scan",
            )
        files: dict[str, Path] = {}
        for path in found:
            key = key_of(path, folder)
            if key in files:
                raise VoltaError(
                    f"Two label maps for '{key}': {files[key].name} and {path.name}",
                    where=folder,
                    fix="Keep one label map for each scan in the folder",
                )
            files[key] = path
        table = folder / "dseg.tsv"
        return cls(folder, files, label_names(table) if table.is_file() else {})

    def structures(self, labels: Any) -> tuple[Structure, ...]:
        """What its values mean.

        Raises:
            UsageError: not clear without being told.
        """
        present: list[int] = []
        if not self.names:
            for path in self.files.values():
                with contextlib.suppress(VoltaError):  # it will be told of when it is scored
                    present = [int(v) for v in np.unique(read_classes(path)[0]) if v]
                    break
        return resolve(labels, self.names, present)


def key_of(path: Path, folder: Path) -> str:
    """What pairs a label map with its reference: BIDS entities, else its name without endings."""
    pairs = dict(re.findall(r"([A-Za-z0-9]+)-([A-Za-z0-9]+)", stem(path)))
    named = [f"{k}-{pairs[k]}" for k in ENTITIES if k in pairs]
    if "sub" in pairs:
        return "_".join(named)
    parts = path.relative_to(folder).parts
    ending = r"[_.](dseg|aseg|seg|labels?|mask|hippocampus)$"
    plain = re.sub(ending, "", stem(path), flags=re.IGNORECASE)
    # FreeSurfer's aseg lies in SUBJECT/mri: there the folder tells whose it is
    generic = plain.lower().split("+")[0].split(".")[0] in ("aseg", "aparc", "seg", "labels")
    return parts[0] if generic and len(parts) > 1 else plain


def read_classes(path: Path) -> tuple[np.ndarray, Grid]:
    """A label map as whole numbers on its own grid.

    Raises:
        VoltaError: unreadable, fractions, negative values, or beyond 65535.
    """
    try:
        image = read_nifti(path)
    except Refused as error:
        raise VoltaError(error.finding.what, where=path, fix=error.finding.how_to_fix) from error
    data = np.asarray(image.data)
    if data.dtype.kind == "f":
        if not np.isfinite(data).all() or np.abs(data - np.round(data)).max() > 1e-3:
            raise VoltaError("The label map has fractions or NaN", where=path, fix=FIX)
        data = np.round(data)
    if data.min() < 0 or data.max() > 65535:
        raise VoltaError("The label map leaves 0 to 65535", where=path, fix=FIX)
    shape = (data.shape[0], data.shape[1], data.shape[2])
    return data.astype(np.uint16), Grid(shape, image.affine)


def on_grid(labels: np.ndarray, own: Grid, wanted: Grid, where: Path) -> tuple[np.ndarray, bool]:
    """A label map on the reference's grid, and whether it had to be resampled (nearest).

    Raises:
        VoltaError: the two don't overlap in the world.
    """
    if same_grid(own.affine, wanted.affine, own.shape, wanted.shape):
        return labels, False
    mapping = mapping_to(own.affine, wanted.affine)
    moved = resample_nearest(labels, mapping, wanted.shape)
    if labels.any() and not moved.any():
        raise VoltaError(
            "The label map and its reference do not overlap in the world",
            where=where,
            fix="Both must be in the space of the same scan; bring it there "
            "(FreeSurfer: mri_label2vol or mri_convert -rl), or correct its header",
        )
    return moved, True


def counterparts(
    reference: Sequence[Structure], other: Sequence[Structure]
) -> tuple[Structure, ...]:
    """The structures of another label set in the order of the reference's.

    By side where there are sides, else by name, else in the order given.

    Raises:
        VoltaError: one has no counterpart.
    """
    found = []
    for position, structure in enumerate(reference):
        same = [s for s in other if s.side and s.side == structure.side]
        if not structure.side or len(same) != 1:
            same = [s for s in other if s.name.casefold() == structure.name.casefold()]
        if not same and len(other) == len(reference) and not structure.side:
            same = [other[position]]
        if len(same) != 1:
            raise VoltaError(
                f"'{structure.name}' has no counterpart among {', '.join(s.name for s in other)}",
                where="labels",
                fix="Put a dseg.tsv with the same names beside both, or use --set labels=...",
            )
        found.append(same[0])
    return tuple(found)


__all__ = [
    "LabelSet",
    "classes_of",
    "counterparts",
    "key_of",
    "on_grid",
    "read_classes",
]
