"""nnU-Net's folders as they are: both versions, labels in either direction, several channels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from volta3d.prepare.layouts import detect, discover
from volta3d.prepare.layouts.nnunet import label_names

Make = Callable[..., Path]


def describe(root: Path, **content: Any) -> None:
    (root / "dataset.json").write_text(json.dumps(content))


def test_C4_label_maps_of_nnunet_are_labels_and_not_scans(nnunet: Path) -> None:
    found = discover(nnunet)
    assert detect(nnunet) == "nnunet" and found.refused == ()
    assert [(s.participant_id, s.label and s.label.name) for s in found.scans] == [
        ("hip_001", "hip_001.nii.gz"),
        ("hip_002", "hip_002.nii.gz"),
        ("hip_003", None),
    ]
    assert found.scans[0].label_names == {1: "left", 2: "right"}
    assert "missing-label" in {f.code for f in found.scans[2].findings}


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"background": 0, "left": 1, "right": 2}, {1: "left", 2: "right"}),
        ({"0": "background", "1": "left", "2": "right"}, {1: "left", 2: "right"}),
        ({"background": "0", "left": "1"}, {1: "left"}),
        ({"background": 0, "whole": [1, 2], "core": [2]}, {2: "core"}),
        (["background", "left"], {}),
    ],
)
def test_C4_names_of_labels_are_read_in_either_direction(
    labels: object, names: dict[int, str]
) -> None:
    assert label_names({"labels": labels}) == names


def test_C4_version_1_lists_pairs_without_the_channel_s_number(nnunet: Path) -> None:
    pairs = [
        {"image": f"./imagesTr/hip_00{n}.nii.gz", "label": f"./labelsTr/hip_00{n}.nii.gz"}
        for n in (1, 2)
    ]
    labels = {"0": "background", "1": "left", "2": "right"}
    describe(nnunet, name="Hip", modality={"0": "MRI"}, labels=labels, training=pairs)
    found = discover(nnunet)
    assert detect(nnunet) == "nnunet" and len(found.scans) == 3 and found.refused == ()
    assert found.scans[0].label_names == {1: "left", 2: "right"}


def test_C4_without_a_description_and_from_a_folder_of_it(nnunet: Path) -> None:
    whole = discover(nnunet)
    assert [s.source for s in discover(nnunet / "imagesTr").scans] == [
        s.source for s in whole.scans
    ]
    (nnunet / "dataset.json").unlink()
    assert detect(nnunet) == "nnunet"
    assert [bool(s.label) for s in discover(nnunet).scans] == [True, True, False]


def test_C4_of_several_channels_the_one_called_t1_is_taken(nnunet: Path, scan: Make) -> None:
    for case in ("hip_001", "hip_002", "hip_003"):
        scan(nnunet / "imagesTr" / f"{case}_0001.nii.gz")
    describe(nnunet, channel_names={"0": "FLAIR", "1": "T1w"}, labels={})
    assert {s.source.name[-11:] for s in discover(nnunet).scans} == {"0001.nii.gz"[-11:]}
    describe(nnunet, channel_names={"0": "FLAIR", "1": "T2"}, labels={})
    found = discover(nnunet)
    assert found.scans == () and {f.code for _, f in found.refused} == {"not-t1"}
    assert "0 FLAIR, 1 T2" in found.refused[0][1].what


def test_C4_a_channel_of_another_kind_is_no_t1w_scan(nnunet: Path) -> None:
    for name in ("CT", "T2w", "FLAIR"):
        describe(nnunet, channel_names={"0": name}, labels={})
        assert {f.code for _, f in discover(nnunet).refused} == {"not-t1"}, name
    describe(nnunet, channel_names={"0": "MRI"}, labels={})
    assert len(discover(nnunet).scans) == 3


def test_C4_what_is_no_pair_is_counted(nnunet: Path, scan: Make, marks: Make) -> None:
    scan(nnunet / "imagesTr" / "odd.nii.gz")
    marks(nnunet / "labelsTr" / "hip_009.nii.gz", {1: 4})
    (nnunet / "imagesTr" / "hip_010_0000.nrrd").write_bytes(b"1")
    codes = sorted((p.name, f.code) for p, f in discover(nnunet).refused)
    assert codes == [
        ("hip_009.nii.gz", "missing-file"),
        ("hip_010_0000.nrrd", "other-format"),
        ("odd.nii.gz", "unknown-name"),
    ]


def test_C4_the_decathlon_s_pairs_of_crops_stay_one_person(nnunet: Path) -> None:
    for folder, ending in (("imagesTr", "_0000"), ("labelsTr", "")):
        for n in (1, 2):
            path = nnunet / folder / f"hip_00{n}{ending}.nii.gz"
            path.rename(path.with_name(f"hippocampus_00{n}{ending}.nii.gz"))
    people = {s.participant_id for s in discover(nnunet).scans}
    assert people == {"hippocampus_001-002", "hip_003"}
