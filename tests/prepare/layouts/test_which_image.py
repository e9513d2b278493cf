"""Which image of several is the T1w scan: by entity, by file name, by the JSON file beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from volta3d.prepare.file_names import is_label_name, not_t1
from volta3d.prepare.layouts import discover
from volta3d.prepare.scan import Scan

Make = Callable[..., Path]


def codes(scan: Scan) -> set[str]:
    return {f.code for f in scan.findings}


def of_names(scan: Make, folder: Path, *names: str) -> tuple[list[str], dict[str, str]]:
    """The names of the scans found below a folder of files, and the refused with their codes."""
    for name in names:
        scan(folder / name)
    found = discover(folder)
    return [s.source.name for s in found.scans], {p.name: f.code for p, f in found.refused}


@pytest.fixture
def anat(tmp_path: Path) -> Path:
    (tmp_path / "ds" / "sub-01" / "anat").mkdir(parents=True)
    (tmp_path / "ds" / "dataset_description.json").write_text('{"Name": "ds"}')
    return tmp_path / "ds" / "sub-01" / "anat"


@pytest.mark.parametrize("part", ["phase", "real", "imag"])
def test_C9_what_is_no_magnitude_is_refused_as_from_dicom(
    anat: Path, scan: Make, part: str
) -> None:
    for name in ("mag", part):
        scan(anat / f"sub-01_part-{name}_T1w.nii.gz")
    found = discover(anat.parents[1])
    assert [s.source.name for s in found.scans] == ["sub-01_part-mag_T1w.nii.gz"]
    assert [f.code for _, f in found.refused] == ["not-magnitude"]


def test_C9_of_several_echoes_the_shortest_is_taken(anat: Path, scan: Make) -> None:
    for number, seconds in ((1, 0.005), (2, 0.002), (3, 0.008)):
        image = scan(anat / f"sub-01_echo-{number}_T1w.nii.gz")
        beside = image.with_name(f"sub-01_echo-{number}_T1w.json")
        beside.write_text(json.dumps({"EchoTime": seconds}))
    (one,) = discover(anat.parents[1]).scans
    assert one.source.name == "sub-01_echo-2_T1w.nii.gz" and "multi-echo" in codes(one)
    for beside in anat.glob("*.json"):
        beside.unlink()
    (one,) = discover(anat.parents[1]).scans
    assert one.source.name == "sub-01_echo-1_T1w.nii.gz"
    scan(anat / "sub-01_T1w.nii.gz")  # all echoes combined
    (one,) = discover(anat.parents[1]).scans
    assert one.source.name == "sub-01_T1w.nii.gz" and "multi-echo" in codes(one)


@pytest.mark.parametrize(
    ("agent", "expected"), [("gadolinium", True), ("gd", True), ("none", False), ("pre", False)]
)
def test_C9_a_contrast_agent_in_the_name_is_a_finding(
    anat: Path, scan: Make, agent: str, expected: bool
) -> None:
    scan(anat / f"sub-01_ce-{agent}_T1w.nii.gz")
    (one,) = discover(anat.parents[1]).scans
    assert ("contrast-agent" in codes(one)) is expected


def test_C9_of_several_reconstructions_one_is_taken(anat: Path, scan: Make, marks: Make) -> None:
    root = anat.parents[1]
    for rec in ("rec-dis2d_", "", "rec-norm_"):
        scan(anat / f"sub-01_{rec}T1w.nii.gz")
    (one,) = discover(root).scans
    assert one.source.name == "sub-01_T1w.nii.gz" and "several-versions" in codes(one)
    marks(root / "derivatives/man/sub-01/anat/sub-01_rec-norm_dseg.nii.gz", {1: 4})
    (one,) = discover(root).scans
    assert one.source.name == "sub-01_rec-norm_T1w.nii.gz" and one.label is not None


def test_C10_of_mp2rage_only_the_uniform_image_is_a_scan(anat: Path, scan: Make) -> None:
    for name in ("inv-1_MP2RAGE", "inv-2_MP2RAGE", "UNIT1", "T1map"):
        scan(anat / f"sub-01_{name}.nii.gz")
    (one,) = discover(anat.parents[1]).scans
    assert one.source.name == "sub-01_UNIT1.nii.gz" and "mp2rage-uniform" in codes(one)
    scan(anat / "sub-01_T1w.nii.gz")
    (one,) = discover(anat.parents[1]).scans
    assert one.source.name == "sub-01_T1w.nii.gz"


def test_C10_an_inversion_image_called_t1w_is_refused(anat: Path, scan: Make) -> None:
    scan(anat / "sub-01_inv-1_T1w.nii.gz")
    found = discover(anat.parents[1])
    assert found.scans == () and [f.code for _, f in found.refused] == ["not-t1"]


OTHERS = (
    "sub-01_T2w", "sub-01_FLAIR", "sub-01_ses-1_task-rest_bold", "sub-01_dir-AP_dwi",
    "sub-01_T1map", "sub-01_PDw", "sub-01_acq-mp2rage_inv-1_MP2RAGE", "sub-01_phasediff",
    "sub-01_R2starmap", "sub-01_T2starw", "sub-01_part-phase_T1w", "sub-01_sbref", "sub-01_asl",
    "sub-01_pet", "ada_flair", "ada-T2", "ADA_BOLD_run1", "dwi_ada", "ada_t1_map", "ada_T1map",
    "inv1_ada", "ada_INV2", "swi-ada", "ada_adc", "R1map_ada", "ada_scout", "ada_t1_phase",
)  # fmt: skip
SCANS = (
    "sub-01_T1w", "sub-01_acq-t2prep_T1w", "sub-01", "sub-01_brain", "ada", "ada_t1", "T1_ada",
    "mprage_ada_t2space_session", "CT01", "b1", "restarted", "subject_pd01_t1w", "flairs", "001",
    "IXI002-Guys-0828-T1", "sub-01_T1w_brain", "sub-01_space-MNI_T1w",
)  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_a_name_that_says_another_image_is_refused(name: str) -> None:
    reason = not_t1(Path(name + ".nii.gz"))
    assert reason is not None and reason.level == "error" and "_T1w" in reason.how_to_fix


@pytest.mark.parametrize("name", SCANS)
def test_a_name_that_says_nothing_else_is_a_scan(name: str) -> None:
    path = Path(name + ".nii.gz")
    assert not_t1(path) is None and not is_label_name(path)


@pytest.mark.parametrize(
    "name",
    ["a_mask", "aseg", "aparc+aseg", "sub-1_label-GM_probseg", "a_pve_1", "wmparc", "seg_a",
     "masks/a", "labelsTr/a", "a_roi", "Segmentation_a", "a_brainmask", "lesion-a"],
)  # fmt: skip
def test_C4_names_of_label_maps_masks_and_probabilities_are_known(name: str) -> None:
    assert is_label_name(Path(name + ".nii.gz"))


def test_a_folder_s_name_says_what_is_in_it(tmp_path: Path, scan: Make) -> None:
    names = ("T1/ada.nii.gz", "T2/ada.nii.gz", "func/ada.nii.gz", "FLAIR/ada_t1.nii.gz")
    kept, refused = of_names(scan, tmp_path, *names)
    assert kept == ["ada_t1.nii.gz", "ada.nii.gz"]
    assert refused == {"ada.nii.gz": "not-t1"}


def test_one_file_given_by_itself_is_judged_too(tmp_path: Path, scan: Make) -> None:
    for name in ("sub-01_T2w", "sub-01_bold", "ada_mask"):
        found = discover(scan(tmp_path / f"{name}.nii.gz"))
        assert found.scans == () and len(found.refused) == 1, name
    assert len(discover(scan(tmp_path / "sub-01_T1w.nii.gz")).scans) == 1


def test_label_maps_in_a_folder_of_their_own_belong_to_scans(
    tmp_path: Path, scan: Make, marks: Make
) -> None:
    for name in ("a", "b"):
        scan(tmp_path / "images" / f"{name}.nii.gz")
        marks(tmp_path / "labels" / f"{name}.nii.gz", {1: 4})
    marks(tmp_path / "labels" / "c.nii.gz", {1: 4})
    found = discover(tmp_path)
    assert [s.label and s.label.parent.name for s in found.scans] == ["labels", "labels"]
    assert [(p.name, f.code) for p, f in found.refused] == [("c.nii.gz", "label-map")]


SIDECARS = [
    ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "not-magnitude", ""),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "T1 MAP", "ND"]}, "not-t1", ""),
    ({"SeriesDescription": "t2_tse_tra"}, "not-t1", ""),
    ({"SeriesDescription": "ep2d_bold_rest"}, "not-t1", ""),
    ({"ProtocolName": "mp2rage_INV1"}, "not-t1", ""),
    ({"SeriesDescription": "AAHead_Scout"}, "localiser", ""),
    ({"BodyPartExamined": "KNEE"}, "other-body-part", ""),
    ({"BodyPartExamined": "CSPINE", "SeriesDescription": "t1_mprage"}, "", "other-body-part"),
    ({"ProtocolName": "t1_tse_sag_cervical"}, "other-body-part", ""),
    ({"BodyPartExamined": "BRAIN", "SeriesDescription": "t1_mprage"}, "", ""),
    ({"ContrastBolusAgent": "Gadovist"}, "", "contrast-agent"),
    ({"ContrastBolusAgent": "NONE"}, "", ""),
    ({"SeriesDescription": "t1_mprage_post_GAD"}, "", "contrast-agent"),
    ({"SeriesDescription": "t1_mprage pre contrast"}, "", ""),
    ({"SeriesDescription": "t1_mp2rage_UNI_Images"}, "", "mp2rage-uniform"),
    ({"EchoTime": 0.09}, "", "weighting-doubtful"),
    ({"EchoTime": 0.003, "RepetitionTime": 2.3, "Manufacturer": "Siemens"}, "", ""),
    ({"SeriesDescription": "T1 hippocampus slab"}, "", "part-of-head"),
]
NOTABLE = {
    "other-body-part", "contrast-agent", "mp2rage-uniform", "weighting-doubtful", "part-of-head",
}  # fmt: skip


@pytest.mark.parametrize(("content", "refused", "noticed"), SIDECARS)
@pytest.mark.parametrize("layout", ["bids", "folder"])
def test_C11_the_json_file_beside_a_scan_is_heard(
    anat: Path, scan: Make, layout: str, content: dict[str, object], refused: str, noticed: str
) -> None:
    folder = anat if layout == "bids" else anat.parents[2] / "plain"
    scan(folder / "sub-01_T1w.nii.gz")
    (folder / "sub-01_T1w.json").write_text(json.dumps(content))
    found = discover(anat.parents[1] if layout == "bids" else folder)
    assert [f.code for _, f in found.refused] == ([refused] if refused else [])
    if refused:
        assert "JSON file" in found.refused[0][1].how_to_fix
    else:
        assert codes(found.scans[0]) & NOTABLE == ({noticed} if noticed else set())


def test_a_broken_json_file_says_nothing(anat: Path, scan: Make) -> None:
    scan(anat / "sub-01_T1w.nii.gz")
    for text in ("{", "[1]", '{"ImageType": 3, "EchoTime": "x", "BodyPartExamined": null}'):
        (anat / "sub-01_T1w.json").write_text(text)
        assert len(discover(anat.parents[1]).scans) == 1
