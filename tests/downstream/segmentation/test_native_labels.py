"""Label maps in their own voxels: one file, several files, files that changed since."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from volta3d.downstream.segmentation.native_labels import read_native
from volta3d.errors import CohortError
from volta3d.prepare.scan import MergedLabel

AFFINE = np.diag([1.5, 2.0, 2.5, 1.0])


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def masks() -> tuple[np.ndarray, np.ndarray]:
    left, right = np.zeros((12, 10, 8), np.uint8), np.zeros((12, 10, 8), np.uint8)
    left[2:5, 3:6, 2:6], right[8:11, 3:7, 2:5] = 1, 255
    return left, right


def test_one_file_is_read_as_it_is(tmp_path: Path) -> None:
    labels = (masks()[0] * 7).astype(np.float32)  # stored as fractions, which preparation accepts
    found, grid = read_native(save(tmp_path / "a.nii.gz", labels))
    assert found.dtype == np.uint16 and np.array_equal(found, labels)
    assert grid.shape == (12, 10, 8) and np.allclose(grid.affine, AFFINE)


@pytest.mark.parametrize("turned", [False, True])
def test_masks_become_one_map_with_their_values(tmp_path: Path, turned: bool) -> None:
    """Also where the second file holds its axes in another order."""
    left, right = masks()
    first, second, affine = save(tmp_path / "l.nii", left), right, AFFINE
    if turned:
        order = np.array([[1, -1], [2, 1], [0, -1]], float)
        second = nib.orientations.apply_orientation(right, order)
        affine = AFFINE @ nib.orientations.inv_ornt_aff(order, right.shape)
    other = save(tmp_path / "r.nii", second, affine)
    found, grid = read_native(MergedLabel(((3, first), (9, other))))
    assert np.array_equal(found, 3 * (left > 0) + 9 * (right > 0))
    assert np.allclose(grid.affine, AFFINE)


def test_files_that_changed_since_are_refused(tmp_path: Path) -> None:
    left, right = masks()
    first = save(tmp_path / "l.nii", left)
    moved = save(tmp_path / "r.nii", right, AFFINE + np.eye(4, k=3) * 5)
    with pytest.raises(CohortError, match="different grids"):
        read_native(MergedLabel(((1, first), (2, moved))))
    for data in (left.astype(np.int16) - 5, np.full(left.shape, np.nan, np.float32)):
        with pytest.raises(CohortError, match="leaves 0"):
            read_native(save(tmp_path / "bad.nii", data))
    (tmp_path / "cut.nii").write_bytes(first.read_bytes()[:900])
    with pytest.raises(CohortError):
        read_native(tmp_path / "cut.nii")
