"""Label maps of a scan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from volta3d.cohort.contract import Contract
from volta3d.prepare.findings import Refused
from volta3d.prepare.labels import brain_volume, read_labels
from volta3d.prepare.volume import prepare_scan

Make = Callable[..., Path]
HEAD = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def marks(head: HEAD) -> np.ndarray:
    labels = np.zeros(head[0].shape, np.uint8)
    labels[13:16, 8:12, 8:12], labels[4:7, 8:12, 8:12] = 47, 48
    return labels


def test_labels_move_with_the_scan(
    tmp_path: Path, nifti: Make, head: HEAD, marks: np.ndarray
) -> None:
    scan, label = nifti(tmp_path / "a.nii", *head), nifti(tmp_path / "l.nii", marks, head[1])
    prepared = prepare_scan(scan, Contract(size=48, spacing=1.0), label)
    assert prepared.label is not None
    assert [f.code for f in prepared.findings] == ["small-field-of-view"]  # of 50 x 55 x 60 mm
    assert set(np.unique(prepared.label)) == {0, 47, 48}
    for value in (47, 48):
        native = head[1] @ [*np.argwhere(marks == value).mean(axis=0), 1]
        here = prepared.affine @ [*np.argwhere(prepared.label == value).mean(axis=0), 1]
        np.testing.assert_allclose(here, native, atol=0.51)  # half a prepared voxel
        volume = (prepared.label == value).sum() * np.linalg.det(prepared.affine[:3, :3])
        assert volume == pytest.approx((marks == value).sum() * 2.5**3, rel=0.05)


def refusal(path: Path, head: HEAD) -> str:
    with pytest.raises(Refused) as caught:
        read_labels(path, head[1], head[0].shape)
    assert path.name in caught.value.finding.what and caught.value.finding.how_to_fix
    return caught.value.finding.code


def test_N30_a_label_map_on_another_grid_is_refused(
    tmp_path: Path, nifti: Make, head: HEAD, marks: np.ndarray
) -> None:
    for change in (np.diag([-1.0, 1, 1, 1]), np.array([[1, 0, 0, 1], *np.eye(4)[1:]])):
        assert refusal(nifti(tmp_path / "l.nii", marks, head[1] @ change), head) == "label-grid"
    assert refusal(nifti(tmp_path / "l.nii", marks[1:], head[1]), head) == "label-grid"
    labels, found = read_labels(
        nifti(tmp_path / "l.nii", marks, head[1] + 1e-4), *head[::-1][:1], head[0].shape
    )
    np.testing.assert_array_equal(labels, marks)
    assert found == []


def test_T4_float_labels(tmp_path: Path, nifti: Make, head: HEAD, marks: np.ndarray) -> None:
    whole = nifti(tmp_path / "l.nii", marks.astype(np.float32), head[1])
    labels, found = read_labels(whole, head[1], head[0].shape)
    np.testing.assert_array_equal(labels, marks)
    assert [f.code for f in found] == ["float-labels"]
    for bad in (marks + 0.5, np.where(marks > 0, np.nan, 0.0)):
        path = nifti(tmp_path / "l.nii", bad.astype(np.float32), head[1])
        assert refusal(path, head) == "label-values"


def test_labels_outside_16_bits(tmp_path: Path, nifti: Make, head: HEAD, marks: np.ndarray) -> None:
    for value in (-1, 70000):
        path = nifti(tmp_path / "l.nii", np.where(marks > 0, value, 0).astype(np.int32), head[1])
        assert refusal(path, head) == "label-values"


def test_T5_an_empty_mask_is_kept_and_flagged(tmp_path: Path, nifti: Make, head: HEAD) -> None:
    path = nifti(tmp_path / "l.nii", np.zeros(head[0].shape, np.uint8), head[1])
    labels, found = read_labels(path, head[1], head[0].shape)
    assert not labels.any() and [f.code for f in found] == ["empty-label"]


def test_labels_that_vanish_are_told(
    tmp_path: Path, nifti: Make, head: HEAD, marks: np.ndarray
) -> None:
    marks[10, 10, 10] = 9
    scan, label = nifti(tmp_path / "a.nii", *head), nifti(tmp_path / "l.nii", marks, head[1])
    found = prepare_scan(scan, Contract(size=6, margin=0), label).findings
    assert [f.code for f in found] == ["small-field-of-view", "labels-lost"]
    assert "1 of 3" in found[1].what


def test_a_damaged_label_map_names_itself(tmp_path: Path, head: HEAD) -> None:
    (tmp_path / "l.nii").write_bytes(b"")
    assert refusal(tmp_path / "l.nii", head) == "label-empty-file"


def test_only_a_parcellation_of_the_whole_brain_gives_its_volume() -> None:
    affine, few = np.diag([4.0, 4.0, 4.0, 1]), np.zeros((30, 30, 30), np.uint16)
    few[2:24, 2:24, 2:24] = 1
    many = np.where(few > 0, 1 + np.arange(30)[:, None, None] + 30 * (np.arange(30) % 2), 0)
    assert np.isnan(brain_volume(few, affine))
    assert brain_volume(many.astype(np.uint16), affine) == pytest.approx(22**3 * 64)
    assert np.isnan(brain_volume(many.astype(np.uint16), affine / 4))  # a hippocampus, say
