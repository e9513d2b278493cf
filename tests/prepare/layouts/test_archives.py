"""What each layout reads out of its archive's names and tables."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from volta3d.cohort.store import Cohort
from volta3d.config import PrepareConfig
from volta3d.prepare import prepare
from volta3d.prepare.layouts import discover
from volta3d.prepare.layouts.brats import PEDIATRIC_2024, TUMOUR
from volta3d.prepare.layouts.brats import label_names as brats_names
from volta3d.prepare.layouts.ida import is_t1, read_day
from volta3d.prepare.scan import MergedLabel, Scan

Make = Callable[..., Path]
SMALL = PrepareConfig(size=24, spacing=2.5)


def by_run(root: Path) -> dict[str, Scan]:
    return {s.run: s for s in discover(root).scans}


def codes(scan: Scan) -> set[str]:
    return {f.code for f in scan.findings}


def told(scan: Scan) -> tuple[str, str, float, str, str, str]:
    age = round(scan.age, 1)
    return scan.participant_id, scan.sex, age, scan.diagnosis, scan.session, scan.site


def test_adni_joins_images_search_table_and_adnimerge(adni: Path) -> None:
    scans = by_run(adni)
    assert set(scans) == {"I13722", "I13723", "I234567", "I40966"}  # the T2 is passed over
    assert told(scans["I13722"]) == ("002_S_0295", "M", 85.0, "CN", "sc", "002")
    # not in the search table: by ADNIMERGE, at the visit nearest the scan, five years on
    assert told(scans["I234567"]) == ("002_S_0295", "M", 89.9, "AD", "2011-05-12", "002")
    # an old download: the image's number is at the end of the file's name
    assert told(scans["I40966"]) == ("003_S_0907", "F", 88.2, "MCI", "sc", "003")
    assert scans["I40966"].scan_id == "adni_003_S_0907_I40966"
    assert scans["I13722"].dataset == "adni"


def test_adni_keeps_several_scans_of_a_day_and_says_so(adni: Path) -> None:
    scans = by_run(adni)
    several = {run for run, scan in scans.items() if "several-scans" in codes(scan)}
    assert several == {"I13722", "I13723"}


def test_adni_without_tables_is_prepared_and_flagged(adni: Path) -> None:
    for table in [*adni.parent.glob("*.csv"), *adni.rglob("*.csv")]:
        table.unlink()
    scan = by_run(adni)["I13722"]
    assert {"no-participant-row", "sex-unknown", "age-unknown"} <= codes(scan)
    assert (scan.sex, scan.diagnosis, scan.session) == ("", "", "2006-04-18")


def test_adni_group_of_the_search_table_is_not_taken_for_the_visit_s_diagnosis(adni: Path) -> None:
    (adni / "tables" / "ADNIMERGE.csv").unlink()
    scan = by_run(adni)["I13722"]
    assert scan.diagnosis == "CN" and "diagnosis-of-group" in codes(scan)


def test_adni_dicom_series_are_scans_too(tmp_path: Path, dicom: ModuleType) -> None:
    root = tmp_path / "ADNI"
    leaf = root / "005_S_0221" / "MPRAGE" / "2006-02-06_10_00_00.0" / "I11939"
    dicom.write(leaf, dicom.slices())
    other = root / "005_S_0221" / "Perfusion_Thing" / "2006-02-06_10_00_00.0" / "I11940"
    dicom.write(other, dicom.slices(uid=2))
    found = discover(root)
    (scan,) = found.scans
    assert (scan.scan_id, scan.participant_id) == ("adni_005_S_0221_I11939", "005_S_0221")
    assert scan.series is not None and found.refused == ()
    result = prepare([root], tmp_path / "c", config=SMALL)
    assert (result.prepared, result.quarantined) == (1, 0)


def test_adni_a_description_no_rule_knows_is_refused_not_guessed(adni: Path, scan: Make) -> None:
    path = adni / "002_S_0295" / "Mystery_scan" / "2006-04-18_08_20_30.0" / "I5" / "x_I5.nii"
    scan(path)
    found = discover(adni)
    assert [(p.name, f.code) for p, f in found.refused] == [("I5", "unknown-contrast")]
    assert len(found.scans) == 4


@pytest.mark.parametrize(
    ("description", "verdict"),
    [
        ("MP-RAGE", True),
        ("MPRAGE_SENSE2", True),
        ("MPRAGE_GRAPPA2", True),
        ("Accelerated_Sagittal_MPRAGE", True),
        ("Accelerated_SAG_IR-SPGR", True),
        ("SAG_IR-FSPGR", True),
        ("IR-SPGR_w_acceleration", True),
        ("Sagittal_3D_Accelerated_MPRAGE_REPEAT", True),
        ("MPR__GradWarp__B1_Correction__N3__Scaled", True),
        ("MPR-R____N3", True),
        ("MT1__GradWarp__N3m", True),
        ("MPRAGE_ADNI_confirmed_RPT", True),
        ("MPRAGESAGISOp2ND", True),
        ("MPRAGE_SAG_ISO_p2", True),
        ("Axial_T2-FLAIR", False),
        ("Axial_PD_T2_FSE", False),
        ("B1-Calibration_PA", False),
        ("HighResHippocampus", False),
        ("Axial_rsfMRI__Eyes_Open_", False),
        ("Field_Mapping", False),
        ("3_Plane_Localizer", False),
        ("Hippocampal_Mask", False),
        ("AV45_Coreg__Avg__Standardized_Image_and_Voxel_Size", False),
        ("Mystery", None),
    ],
)
def test_descriptions_of_t1_weighted_images(description: str, verdict: bool | None) -> None:
    assert is_t1(description) is verdict


def test_days_are_read_month_first_as_the_archive_writes_them() -> None:
    assert read_day("1/29/2018") == date(2018, 1, 29)
    assert read_day("2006-04-18_08_20_30.0") == date(2006, 4, 18)
    assert read_day("29/1/2018") is None and read_day("-4") is None


def test_harp_merges_both_sides_into_one_map(harp: Path, tmp_path: Path) -> None:
    scans = by_run(harp)
    labelled = {run: s for run, s in scans.items() if s.label}
    assert set(labelled) == {"I13722"}  # not its repeat, and not the one that lost a side
    label = labelled["I13722"].label
    assert isinstance(label, MergedLabel)
    assert [(v, p.stem[-1]) for v, p in label.parts] == [(1, "L"), (2, "R")]
    assert "one-sided-label" in codes(scans["I40966"])
    assert {s.dataset for s in scans.values()} == {"harp"}
    result = prepare([harp], tmp_path / "c", config=SMALL)
    cohort = Cohort.open(result.cohort)
    assert cohort.contract.label_names == {1: "Left-Hippocampus", 2: "Right-Hippocampus"}
    row = cohort.scan_ids.index("harp_002_S_0295_I13722")
    merged = cohort.label(row)
    assert merged is not None and set(np.unique(merged)) == {0, 1, 2}
    left, right = (np.argwhere(merged == v)[:, 0].mean() for v in (1, 2))
    assert right > left  # axis 0 points to the right
    assert cohort.participants["label_file"][row].count(";") == 1


@pytest.mark.parametrize("kind", ["swapped", "overlapping"])
def test_harp_sides_that_contradict_their_names_are_quarantined(
    harp: Path, tmp_path: Path, marks: Make, kind: str
) -> None:
    labels = harp / "Labels_100_NIFTI"
    left, right = (labels / f"ADNI_002_S_0295_13722_{side}.nii" for side in "LR")
    if kind == "swapped":
        left.rename(labels / "x"), right.rename(left), (labels / "x").rename(right)
    else:
        marks(right, {1: 5})
    result = prepare([harp], tmp_path / "c", config=SMALL)
    table = Cohort.open(result.cohort).quarantine
    code = "label-sides" if kind == "swapped" else "label-overlap"
    assert table["code"].tolist() == [code] and result.prepared == 2


def test_harp_labels_without_their_scan_are_told(harp: Path, marks: Make) -> None:
    marks(harp / "Labels_100_NIFTI" / "ADNI_009_S_0001_5_R.nii", {1: 3})
    refused = discover(harp).refused
    assert [f.code for _, f in refused] == ["label-without-scan"]


def test_harp_scans_may_lie_flat(tmp_path: Path, scan: Make, marks: Make) -> None:
    root = tmp_path / "flat"
    scan(root / "images" / "ADNI_002_S_0295_13722.nii.gz")
    marks(root / "labels" / "ADNI_002_S_0295_13722_L.nii.gz", {1: 4})
    marks(root / "labels" / "ADNI_002_S_0295_13722_R.nii.gz", {1: 13})
    (found,) = discover(root).scans
    assert found.participant_id == "002_S_0295" and isinstance(found.label, MergedLabel)


def test_aibl_joins_visits_by_day_and_codes_by_visit(aibl: Path) -> None:
    scans = by_run(aibl)
    assert set(scans) == {"I92891", "I160001", "I92900"}  # the PET is passed over
    assert told(scans["I92891"]) == ("AIBL2", "F", 71.0, "CN", "bl", "2")
    assert told(scans["I160001"]) == ("AIBL2", "F", 73.0, "MCI", "m18", "2")
    assert "age-from-year" in codes(scans["I92891"])
    # its day is in no table, but all visits agree on Alzheimer's disease
    assert told(scans["I92900"]) == ("AIBL14", "M", 76.0, "AD", "2006-11-30", "1")
    assert "diagnosis-of-all-visits" in codes(scans["I92900"])


def test_aibl_other_codes_are_no_diagnosis(aibl: Path) -> None:
    table = next(aibl.rglob("aibl_pdxconv*"))
    table.write_text("RID,SITEID,VISCODE,DXCURREN\n2,2,bl,7\n2,2,m18,-4\n")
    scans = by_run(aibl)
    for run in ("I92891", "I160001"):
        assert scans[run].diagnosis == "" and "diagnosis-unknown" in codes(scans[run])


def test_brats_takes_the_native_t1_of_every_timepoint(brats: Path) -> None:
    scans = {s.scan_id: s for s in discover(brats).scans}
    assert set(scans) == {
        "brats-gli_BraTS-GLI-00005_100",
        "brats-gli_BraTS-GLI-00005_101",
        "brats-met_BraTS-MET-00001_000",
    }
    first = scans["brats-gli_BraTS-GLI-00005_100"]
    assert first.source.name == "BraTS-GLI-00005-100-t1n.nii.gz"
    assert (first.participant_id, first.session, first.dataset) == (
        "BraTS-GLI-00005",
        "100",
        "brats-gli",
    )
    assert isinstance(first.label, Path) and first.label.name.endswith("-seg.nii.gz")
    assert first.label_names == TUMOUR
    assert scans["brats-met_BraTS-MET-00001_000"].label is None


def test_brats_pediatric_labels_are_named_by_the_year_or_not_at_all(
    tmp_path: Path, scan: Make, marks: Make
) -> None:
    assert brats_names("PED", Path("BraTS-PEDs2024_Training/x/x.nii")) == PEDIATRIC_2024
    assert brats_names("PED", Path("ASNR-MICCAI-BraTS2023-PED-Challenge/x/x.nii")) == TUMOUR
    case = tmp_path / "peds" / "BraTS-PED-00002-000"
    scan(case / "BraTS-PED-00002-000-t1n.nii.gz")
    marks(case / "BraTS-PED-00002-000-seg.nii.gz", {1: 4})
    (found,) = discover(tmp_path / "peds").scans
    assert found.label_names == {} and "label-names-unknown" in codes(found)


def test_ixi_reads_names_and_the_table(ixi: Path) -> None:
    scans = {s.participant_id: s for s in discover(ixi).scans}
    assert set(scans) == {"IXI002", "IXI012", "IXI035", "IXI600"}  # T1 only
    assert [told(scans[k])[1:3] for k in ("IXI002", "IXI012")] == [("F", 35.8), ("M", 38.8)]
    assert [scans[k].site for k in scans] == ["Guys", "HH", "IOP", "HH"]
    assert told(scans["IXI035"])[1:3] == ("M", 55.9)  # of two rows the fuller one
    assert "repeated-participant" in codes(scans["IXI035"])
    assert "no-participant-row" in codes(scans["IXI600"]) and math.isnan(scans["IXI600"].age)


def test_msd_names_labels_from_its_description_and_misses_files(msd: Path, tmp_path: Path) -> None:
    found = discover(msd)
    people = ["hippocampus_001-002", "hippocampus_003-004"]
    assert [s.participant_id for s in found.scans] == people
    assert found.scans[0].label_names == {1: "Anterior", 2: "Posterior"}
    assert [f.code for _, f in found.refused] == ["missing-file"]
    result = prepare([msd], tmp_path / "c", config=SMALL)
    assert Cohort.open(result.cohort).contract.label_names == {1: "Anterior", 2: "Posterior"}
    assert result.quarantined == 1


def test_msd_images_of_several_channels_are_refused_with_their_names(msd: Path) -> None:
    content = json.loads((msd / "dataset.json").read_text())
    content["modality"] = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    (msd / "dataset.json").write_text(json.dumps(content))
    found = discover(msd)
    assert found.scans == () and {f.code for _, f in found.refused} == {"series", "missing-file"}
    finding = found.refused[0][1]
    assert "1 T1w" in finding.what and "channel 1" in finding.how_to_fix


@pytest.mark.parametrize("name", ["../secret.nii.gz", "/etc/passwd", ""])
def test_msd_a_description_that_names_files_elsewhere_opens_none(msd: Path, name: str) -> None:
    (msd.parent / "secret.nii.gz").write_bytes(b"x")
    content = json.loads((msd / "dataset.json").read_text())
    content["training"] = [{"image": name, "label": name}, *content["training"][:1]]
    (msd / "dataset.json").write_text(json.dumps(content))
    found = discover(msd)
    assert len(found.scans) == len(found.refused) == 1


def test_caps_takes_the_cropped_image_of_each_session(caps: Path) -> None:
    first, second = discover(caps).scans
    assert first.scan_id == "caps-of-adni_sub-ADNI002S0295_ses-M000"
    assert (first.participant_id, first.session) == ("sub-ADNI002S0295", "ses-M000")
    assert "desc-Crop" in second.source.name and "several-versions" in codes(second)
    assert "resampled-before" in codes(first) and "no-participant-row" in codes(first)
    (caps / "participants.tsv").write_text("participant_id\tsex\nsub-ADNI002S0295\tM\n")
    table = caps / "subjects" / "sub-ADNI002S0295" / "sub-ADNI002S0295_sessions.tsv"
    table.write_text("session_id\tage\tdiagnosis\nses-M000\t85\tCN\n")
    assert told(discover(caps).scans[0])[1:4] == ("M", 85.0, "CN")


def test_bids_sessions_runs_versions_and_derivatives(bids_tree: Path) -> None:
    scans = {s.scan_id: s for s in discover(bids_tree).scans}
    assert set(scans) == {
        "study_sub-A1_ses-1_run-1",
        "study_sub-A1_ses-1_run-2",
        "study_sub-A1_ses-2",
        "study_sub-B2_desc-brain",
    }
    second = scans["study_sub-A1_ses-1_run-2"]
    assert second.source.name == "sub-A1_ses-1_run-2_T1w.nii.gz"  # not the stripped version
    assert "several-versions" in codes(second) and second.label is None
    assert told(second)[1:3] == ("F", 70.0)
    third = scans["study_sub-A1_ses-2"]
    assert told(third)[1:5] == ("F", 72.5, "MCI", "ses-2")  # the session's row wins
    assert third.label is not None and third.label_names == {47: "right", 48: "left"}


def test_folder_reads_any_table_that_names_its_files(folder: Path, tmp_path: Path) -> None:
    scans = {s.source.name: s for s in discover(folder).scans}
    assert set(scans) == {"Über (1).nii.gz", "c.nii"}
    assert [(s.sex, s.age) for s in scans.values()] == [("F", 31.5), ("M", 40.0)]
    assert scans["c.nii"].label == folder / "c_seg.nii"


def test_a_table_given_wins_over_the_source_for_any_layout(bids_tree: Path, tmp_path: Path) -> None:
    table = tmp_path / "more.csv"
    table.write_text("subject,sex (0=female 1=male),dx,visit\nA1,1,AD,2\nA1,1,CN,1\n")
    scans = {s.scan_id: s for s in discover(bids_tree, table=table).scans}
    assert told(scans["study_sub-A1_ses-2"])[1:4] == ("M", 72.5, "AD")
    assert told(scans["study_sub-A1_ses-1_run-1"])[1:4] == ("M", 70.0, "CN")
    other = scans["study_sub-B2_desc-brain"]
    assert other.sex == "M" and "no-participant-row" in codes(other)


@pytest.mark.parametrize(
    ("text", "says"),
    [("colour,sex\nred,M\n", "no column"), ("file,sex\nother.nii,M\n", "No row of the table fits")],
)
def test_a_table_that_fits_nothing_is_an_error(
    folder: Path, tmp_path: Path, text: str, says: str
) -> None:
    from volta3d.errors import CohortError

    table = tmp_path / "table.csv"
    table.write_text(text)
    with pytest.raises(CohortError, match=says):
        discover(folder, table=table)


def test_names_and_findings_reach_the_cohort(brats: Path, tmp_path: Path) -> None:
    result = prepare([brats], tmp_path / "c", config=SMALL)
    cohort = Cohort.open(result.cohort)
    assert cohort.contract.label_names == TUMOUR
    people = pd.Series(cohort.participants["participant_id"]).tolist()
    assert people == ["BraTS-MET-00001", "BraTS-GLI-00005", "BraTS-GLI-00005"]


def test_adni_a_row_of_another_subject_is_not_an_image_s_row(adni: Path) -> None:
    table = next(adni.parent.glob("*.csv"))
    table.write_text(table.read_text().replace('"I13722","002_S_0295"', '"I13722","011_S_0002"'))
    scan = by_run(adni)["I13722"]
    assert (scan.sex, round(scan.age, 1), scan.diagnosis) == ("M", 84.8, "CN")  # by ADNIMERGE
