"""Folders of label maps as people and programs leave them."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from volta3d.errors import VoltaError
from volta3d.evaluate.segmentation.labelmaps import read_classes
from volta3d.evaluate.segmentation.labelsets import LabelSet

AFFINE = np.array([[-1.0, 0, 0, 10], [0, 0, 1, -8], [0, -1, 0, 6], [0, 0, 0, 1]])  # FreeSurfer's


def save(path: Path, value: int = 17, kind: type = np.int32) -> None:
    labels = np.zeros((8, 9, 10), kind)
    labels[2:5, 3:6, 4:7] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.MGHImage if path.suffix in (".mgz", ".mgh") else nib.Nifti1Image
    nib.save(image(labels, AFFINE), path)


def found(folder: Path) -> dict[str, str]:
    return {k: p.relative_to(folder).as_posix() for k, p in LabelSet.open(folder).files.items()}


@pytest.mark.parametrize("name", ["aseg.mgz", "aseg.mgh"])
@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.float32])
def test_mgh_files_are_read_with_their_place(tmp_path: Path, name: str, kind: type) -> None:
    save(tmp_path / name, 2035 if kind is not np.uint8 else 53, kind)
    save(tmp_path / "same.nii.gz", 2035 if kind is not np.uint8 else 53, kind)
    labels, grid = read_classes(tmp_path / name)
    again, same = read_classes(tmp_path / "same.nii.gz")
    assert np.array_equal(labels, again) and labels.dtype == np.uint16
    assert grid.shape == same.shape and np.allclose(grid.affine, same.affine)


def test_damaged_mgh_files_are_told_of(tmp_path: Path) -> None:
    file = tmp_path / "aseg.mgz"
    save(file)
    whole = gzip.decompress(file.read_bytes())
    series = whole[:16] + (2).to_bytes(4, "big") + whole[20:]  # two frames
    huge = whole[:4] + (2**20).to_bytes(4, "big") * 3 + whole[16:]
    fractions = np.full((8, 9, 10), 0.5, np.float32)
    for content in (
        b"", b"nothing", file.read_bytes()[:-40], gzip.compress(whole[:200]), gzip.compress(series),
        gzip.compress(huge), gzip.compress(b"\0" * 400),
    ):  # fmt: skip
        file.write_bytes(content)
        with pytest.raises(VoltaError, match="cannot be read"):
            read_classes(file)
    nib.save(nib.MGHImage(fractions, AFFINE), file)
    with pytest.raises(VoltaError, match="fractions"):
        read_classes(file)


def test_freesurfer_s_and_fastsurfer_s_subjects(tmp_path: Path) -> None:
    for name in ("orig", "T1", "brain", "aparc+aseg", "wmparc", "aseg", "aseg.auto"):
        save(tmp_path / "bert" / "mri" / f"{name}.mgz")
    save(tmp_path / "bert" / "mri" / "orig" / "001.mgz")
    save(tmp_path / "bert" / "surf" / "lh.area.fsaverage.mgz")
    save(tmp_path / "sub-1_ses-2" / "mri" / "aparc.DKTatlas+aseg.deep.mgz")
    save(tmp_path / "sub-1_ses-2" / "mri" / "orig.mgz")
    save(tmp_path / "sub-3" / "mri" / "aparc+aseg.mgz")
    save(tmp_path / "fsaverage" / "mri" / "aseg.mgz")
    save(tmp_path / "stopped" / "mri" / "orig.mgz")
    assert found(tmp_path) == {
        "bert": "bert/mri/aseg.mgz",
        "sub-1_ses-2": "sub-1_ses-2/mri/aparc.DKTatlas+aseg.deep.mgz",
        "sub-3": "sub-3/mri/aparc+aseg.mgz",
    }
    assert LabelSet.open(tmp_path).surfer
    assert list(found(tmp_path / "bert")) == ["bert"]  # a subject's own folder


def test_a_scan_beside_its_label_map_is_not_one(tmp_path: Path) -> None:
    for name in ("hippocampus_001", "hippocampus_001_dseg", "b", "b_brainmask.mask", "b_labels"):
        save(tmp_path / f"{name}.nii.gz")
    save(tmp_path / "sub-3_desc-brain_mask.nii.gz")
    save(tmp_path / "sub-3_desc-aseg_dseg.nii.gz")
    save(tmp_path / "sub-3_T2w.nii.gz")
    assert found(tmp_path) == {
        "hippocampus_001": "hippocampus_001_dseg.nii.gz",
        "b": "b_labels.nii.gz",
        "b_brainmask": "b_brainmask.mask.nii.gz",
        "sub-3": "sub-3_desc-aseg_dseg.nii.gz",
    }
    save(tmp_path / "hippocampus_001_seg.nii.gz")
    with pytest.raises(VoltaError, match="Two label maps for 'hippocampus_001'"):
        LabelSet.open(tmp_path)
