"""Label maps read from their files, in the files' own voxels."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from volta3d.downstream.segmentation.native import Grid
from volta3d.errors import CohortError
from volta3d.prepare.findings import Refused
from volta3d.prepare.geometry import same_grid
from volta3d.prepare.image import read_image
from volta3d.prepare.labels import LARGEST
from volta3d.prepare.scan import Label, MergedLabel

CHANGED = "Restore the file, or prepare the cohort again: it isn't what it was then"


def read_native(label: Label) -> tuple[np.ndarray, Grid]:
    """A label map as it lies in its file; one in several files as one map on the first one's grid.

    Args:
        label: which preparation found to be sound.

    Returns:
        Its values, uint16 [I, J, K], and where they lie.

    Raises:
        CohortError: a file cannot be read, or isn't what it was when the cohort was prepared.
    """
    if isinstance(label, MergedLabel):
        return _merged(label)
    return _one(label)


def _merged(label: MergedLabel) -> tuple[np.ndarray, Grid]:
    """Masks of one structure each, a mask being where its file is above 0, as in preparation."""
    (value, path), *others = label.parts
    mask, grid = _one(path)
    merged = np.where(mask > 0, np.uint16(value), np.uint16(0))
    for value, path in others:
        mask, own = _one(path)
        merged[_turned(mask, own, grid, path) > 0] = value
    return merged, grid


def _turned(mask: np.ndarray, own: Grid, wanted: Grid, path: Path) -> np.ndarray:
    """A mask with its axes in the order and the directions of another grid."""
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(own.affine), nib.io_orientation(wanted.affine)
    )
    affine = own.affine @ nib.orientations.inv_ornt_aff(turn, own.shape)
    turned: np.ndarray = nib.apply_orientation(mask, turn)
    if not same_grid(wanted.affine, affine, wanted.shape, turned.shape):
        raise CohortError(
            "The label files of one scan lie on different grids", where=path, fix=CHANGED
        )
    return turned


def _one(path: Path) -> tuple[np.ndarray, Grid]:
    try:
        image = read_image(path, narrow=True)
    except Refused as error:
        raise CohortError(error.finding.what, where=path, fix=CHANGED) from error
    data = image.data if image.data.dtype.kind in "iu" else np.rint(image.data)
    if not (data.min() >= 0 and data.max() <= LARGEST):
        raise CohortError(f"The label map leaves 0 to {LARGEST}", where=path, fix=CHANGED)
    shape = (data.shape[0], data.shape[1], data.shape[2])
    return data.astype(np.uint16), Grid(shape, image.affine)
