"""Label maps as people leave them: what cannot be used is named, with a way out that exists."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from volta3d.errors import UsageError, VoltaError
from volta3d.evaluate.segmentation.labelsets import LabelSet
from volta3d.evaluate.segmentation.score import evaluate_reference
from volta3d.evaluate.segmentation.summary_lines import render

LABELS = np.zeros((12, 12, 12), np.uint8)
LABELS[2:5, 3:8, 3:8], LABELS[7:10, 3:8, 3:8] = 17, 53
NAME = "sub-{}_dseg.nii.gz"
FORK = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + b"\0" * 120


def save(path: Path, labels: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(labels, np.eye(4) if affine is None else affine)
    nib.save(image, path)
    return path


def without_orientation(path: Path, labels: np.ndarray) -> None:
    save(path, labels)
    image = nib.Nifti1Image(labels, None)
    nib.save(image, path)


@pytest.fixture
def manual(tmp_path: Path) -> Path:
    for person in (1, 2):
        save(tmp_path / "manual" / NAME.format(person), LABELS)
    return tmp_path / "manual"


def holed() -> np.ndarray:
    labels = LABELS.astype(np.float32)
    labels[0, 0, :3] = np.nan
    return labels


UNUSABLE: dict[str, tuple[np.ndarray, Callable[..., object], str, str]] = {
    "probabilities": (
        (LABELS > 0) * np.float32(0.8),
        save,
        "fractions, as a probability map has: 0 to 0.8",
        "1 where a probability is above .5",
    ),
    "4D": (np.stack([LABELS, LABELS], -1), save, "A series of 2 volumes", "one 3D label map"),
    "NaN": (holed(), save, "NaN or infinite in 3 voxels", "Set them to 0"),
    "no orientation": (LABELS, without_orientation, "Neither sform nor qform", "fslcpgeom"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
@pytest.mark.parametrize("labels", ["hippocampus", {"left": 17, "right": 53}])
def test_what_makes_all_label_maps_unusable_is_named(
    tmp_path: Path, manual: Path, kind: str, labels: object
) -> None:
    data, write, what, fix = UNUSABLE[kind]
    for person in (1, 2):
        write(tmp_path / "arm" / NAME.format(person), data)
    with pytest.raises(VoltaError, match=what) as caught:
        evaluate_reference(manual, [tmp_path / "arm"], labels=labels)
    assert fix in caught.value.fix and "sub-1_dseg" in caught.value.where
    assert "--set" not in str(caught.value) and "prepare" not in str(caught.value)


def test_one_unusable_label_map_is_listed_and_the_others_are_scored(
    tmp_path: Path, manual: Path
) -> None:
    save(tmp_path / "arm" / NAME.format(1), holed())
    save(tmp_path / "arm" / NAME.format(2), LABELS)
    scored = evaluate_reference(manual, [tmp_path / "arm"])
    assert (scored.cases["dice"] == 1).all()
    assert [p["case"] for p in scored.unmatched] == ["sub-1"]
    assert "NaN or infinite" in scored.unmatched[0]["what"]


def test_empty_label_maps_have_a_dice_of_zero(tmp_path: Path, manual: Path) -> None:
    for person in (1, 2):
        save(tmp_path / "arm" / NAME.format(person), LABELS * 0)
    scored = evaluate_reference(manual, [tmp_path / "arm"])
    assert (scored.cases["dice"] == 0).all() and (scored.cases["status"] == "missed").all()
    assert "is in none of 2 label maps" in render(scored.summary)


def test_labels_that_nobody_names_are_asked_for_in_this_command_s_words(
    tmp_path: Path, manual: Path
) -> None:
    for person in (1, 2):
        save(tmp_path / "arm" / NAME.format(person), (LABELS > 0) * np.uint8(9))
    with pytest.raises(UsageError, match="not clear") as caught:
        evaluate_reference(manual, [tmp_path / "arm"])
    assert "--labels '{left: 48, right: 47}'" in caught.value.fix
    assert "--set" not in caught.value.fix


@pytest.mark.parametrize("hidden", ["._" + NAME.format(1), ".trash/" + NAME.format(1)])
def test_hidden_files_are_passed_over_and_counted(
    tmp_path: Path, manual: Path, hidden: str
) -> None:
    for person in (1, 2):
        save(tmp_path / "arm" / NAME.format(person), LABELS)
    (tmp_path / "arm" / hidden).parent.mkdir(exist_ok=True)
    (tmp_path / "arm" / hidden).write_bytes(FORK)
    (tmp_path / "arm" / "sub-3_seg.nrrd").write_bytes(b"NRRD0004\n")
    scored = evaluate_reference(manual, [tmp_path / "arm"])
    assert (scored.cases["dice"] == 1).all() and scored.unmatched == []
    assert scored.summary["passed_over"] == {"arm": {"hidden": 1, ".nrrd": 1}}
    assert "Files passed over in arm: 1 hidden, 1 .nrrd" in render(scored.summary)


def test_a_folder_of_another_format_says_so(tmp_path: Path) -> None:
    (tmp_path / "sub-1_seg.nrrd").write_bytes(b"NRRD0004\n")
    with pytest.raises(VoltaError, match=r"No label maps there; files not read: 1 \.nrrd"):
        LabelSet.open(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("sub-1_hemi-L_dseg.nii.gz", "sub-1_hemi-R_dseg.nii.gz"),
        ("lh.case7.nii.gz", "rh.case7.nii.gz"),
        ("case7_left_hippocampus.nii.gz", "case7_right_hippocampus.nii.gz"),
        ("case7_L.nii.gz", "case7_R.nii.gz"),
    ],
)
def test_hemispheres_in_two_files_are_refused_with_the_way_out(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    for name, value in zip(names, (17, 53), strict=True):
        save(tmp_path / name, (value == LABELS) * np.uint8(1))
    with pytest.raises(VoltaError, match="hemispheres of a scan are in two files") as caught:
        LabelSet.open(tmp_path)
    assert "17 (left) and 53 (right)" in caught.value.fix


def test_one_side_alone_and_both_in_a_name_are_no_pair(tmp_path: Path) -> None:
    for name in ("a_L.nii.gz", "b_R.nii.gz", "left_and_right_a.nii.gz", "right_and_left_a.nii.gz"):
        save(tmp_path / name, LABELS)
    assert len(LabelSet.open(tmp_path).files) == 4
