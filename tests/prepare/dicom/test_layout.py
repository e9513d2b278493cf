"""DICOM folders and archives as a source of ``prepare``: who is who, what is kept, what goes on."""

from __future__ import annotations

import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from volta3d.cohort.store import Cohort
from volta3d.config import PrepareConfig
from volta3d.errors import CohortError, UsageError
from volta3d.files import read_json
from volta3d.prepare import prepare
from volta3d.prepare.dicom import converter
from volta3d.prepare.layouts import detect, discover
from volta3d.prepare.source import as_nifti, prepare_source, source_sha256

SMALL = PrepareConfig(size=16, spacing=6)


def ids(root: Path) -> list[tuple[str, str, str]]:
    return [(s.participant_id, s.session, s.run) for s in discover(root, "dicom").scans]


def test_one_study_in_many_folders_is_one_participant(tmp_path: Path, dicom: ModuleType) -> None:
    root = tmp_path / "Study"
    dicom.write(root / "SER1", dicom.slices(uid=1))
    dicom.write(root / "SER2", dicom.slices(dicom.head() + 1, uid=2))
    assert ids(root) == [("study", "", "1"), ("study", "", "2")]
    assert [s.scan_id for s in discover(root).scans] == ["study_run-1", "study_run-2"]


def test_folders_are_participants_and_studies_sessions_by_date(
    tmp_path: Path, dicom: ModuleType
) -> None:
    root = tmp_path / "in"
    for number, (who, when, date) in enumerate(
        [("ada", "x", "20200101"), ("ada", "a", "20210101"), ("bob", "b", "20190101")]
    ):
        made = dicom.slices(uid=number, study=number, PatientID=who, StudyDate=date)
        dicom.write(root / who / when, made)
    assert sorted(ids(root)) == [("ada", "ses-1", ""), ("ada", "ses-2", ""), ("bob", "", "")]
    scans = {s.session: s for s in discover(root).scans if s.participant_id == "ada"}
    assert scans["ses-1"].source.parent.name == "x"  # the earlier date, not the earlier name


def test_two_patients_in_one_folder_are_two_participants(tmp_path: Path, dicom: ModuleType) -> None:
    made = dicom.slices(uid=1, study=1, PatientID="A") + dicom.slices(uid=2, study=2, PatientID="B")
    root = dicom.write(tmp_path / "in", made)
    assert ids(root) == [("in-1", "", ""), ("in-2", "", "")]
    assert not any("A" in s.scan_id or "B" in s.scan_id for s in discover(root).scans)


def test_one_patient_in_two_folders_is_flagged(tmp_path: Path, dicom: ModuleType) -> None:
    for number in (1, 2):
        made = dicom.slices(uid=number, study=number)
        dicom.write(tmp_path / "in" / f"p{number}", made)
    scans = discover(tmp_path / "in").scans
    assert {s.participant_id for s in scans} == {"p1", "p2"}
    assert all("patient-in-two-folders" in [f.code for f in s.findings] for s in scans)


def test_a_folder_that_wraps_a_whole_archive_names_nobody(
    tmp_path: Path, dicom: ModuleType
) -> None:
    for number, name in enumerate(("ada", "bob"), 1):
        made = dicom.slices(uid=number, study=number, PatientID=name)
        dicom.write(tmp_path / "in" / name, made)
    for members in (["ada"], ["ada", "bob"]):
        with zipfile.ZipFile(tmp_path / "visits.zip", "w") as packed:
            for path in (p for m in members for p in (tmp_path / "in" / m).iterdir()):
                packed.write(path, f"export/DICOM/{path.relative_to(tmp_path / 'in')}")
        found = [who for who, _, _ in ids(tmp_path / "visits.zip")]
        assert found == (["visits"] if members == ["ada"] else members)


def test_detection(tmp_path: Path, dicom: ModuleType) -> None:
    root = dicom.write(tmp_path / "in", dicom.slices(), [f"IM{k}" for k in range(20)])
    assert detect(root) == detect(root / "IM3") == "dicom"
    (root / "scan.nii.gz").write_bytes(b"")
    with pytest.raises(CohortError, match="not guessed"):
        detect(root)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("notes.txt", "nothing here")
    assert detect(tmp_path / "a.zip") == "dicom"
    with pytest.raises(CohortError, match="No T1w scan found"):
        discover(tmp_path / "a.zip")


def test_without_pydicom_the_error_names_the_extra(
    tmp_path: Path, dicom: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = dicom.write(tmp_path / "in", dicom.slices())
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(UsageError, match=r"volta3d\[dicom\]"):
        discover(root)


def test_a_folder_and_its_zip_give_the_same_cohort(tmp_path: Path, dicom: ModuleType) -> None:
    made = dicom.slices(Manufacturer="Philips Medical Systems", MagneticFieldStrength=3)
    root = dicom.write(tmp_path / "study", made)
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as packed:
        for path in root.iterdir():
            packed.write(path, f"x/{path.name}")
    first = prepare([root], tmp_path / "a", config=SMALL)
    second = prepare([tmp_path / "study.zip"], tmp_path / "b", config=SMALL)
    assert (first.prepared, second.prepared, first.quarantined) == (1, 1, 0)
    one, two = Cohort.open(tmp_path / "a"), Cohort.open(tmp_path / "b")
    np.testing.assert_array_equal(one.volume(0), two.volume(0))
    for column in ("source_sha256", "sex", "age", "participant_id", "scan_id"):
        assert one.participants[column].tolist() == two.participants[column].tolist() != [""]
    facts = read_json(tmp_path / "a" / "preparation.json")[0]["acquisition"]
    assert facts["manufacturer"] == "Philips" and facts["field_strength"] == 3
    # a second run has nothing to do, nothing is left behind
    assert prepare([root], tmp_path / "a", config=SMALL).skipped == 1
    assert not (tmp_path / "a" / ".work").exists()


def test_the_hash_of_a_series_knows_its_content_only(tmp_path: Path, dicom: ModuleType) -> None:
    a = dicom.write(tmp_path / "a", dicom.slices())
    b = dicom.write(tmp_path / "b", dicom.slices()[::-1])
    c = dicom.write(tmp_path / "c", dicom.slices(PatientAge="068Y"))
    hashes = [source_sha256(discover(root).scans[0]) for root in (a, b, c)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_scan_is_converted_for_as_long_as_it_is_used(tmp_path: Path, dicom: ModuleType) -> None:
    (scan,) = discover(dicom.write(tmp_path / "in", dicom.slices())).scans
    with as_nifti(scan, tmp_path / "work") as (path, findings):
        assert path.is_file() and path.is_relative_to(tmp_path / "work") and findings == ()
    assert not any((tmp_path / "work").iterdir())
    from volta3d.cohort.contract import Contract

    assert prepare_source(scan, Contract.from_config(SMALL)).volume.shape == (16, 16, 16)
    with pytest.raises(ZeroDivisionError), as_nifti(scan, tmp_path / "work"):
        raise ZeroDivisionError
    assert not any((tmp_path / "work").iterdir())


def test_embedding_prepares_dicom_as_a_cohort_would(tmp_path: Path, dicom: ModuleType) -> None:
    from types import SimpleNamespace

    from volta3d.cohort.contract import Contract
    from volta3d.encoder.source import Source

    root = dicom.write(tmp_path / "in", dicom.slices())
    prepare([root], tmp_path / "c", config=SMALL)
    cohort = Cohort.open(tmp_path / "c")
    encoder: Any = SimpleNamespace(contract=Contract.from_config(SMALL))
    (scan,) = Source.open(root, encoder).cubes()
    row, volume = scan.row, scan.volume
    np.testing.assert_array_equal(volume, cohort.volume(0))
    assert row["source_sha256"].tolist() == cohort.participants["source_sha256"].tolist()


def test_D18_a_converter_crash_is_recorded_and_the_batch_finishes(
    tmp_path: Path, dicom: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("p1", "p2", "p3")):
        values = dicom.head() + number
        made = dicom.slices(values[: 20 - number], uid=number, study=number, PatientID=name)
        dicom.write(tmp_path / "in" / name, made)
    script = tmp_path / "dcm2niix"
    script.write_text(  # crashes on the series of nineteen slices
        "#!/bin/bash\n"
        'count=("${@: -1}"/*)\n'
        "[ ${#count[@]} = 19 ] && kill -SEGV $$\n"
        f'exec {converter.dcm2niix()} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr(converter, "dcm2niix", lambda: str(script))
    result = prepare([tmp_path / "in"], tmp_path / "c", config=SMALL)
    assert (result.prepared, result.quarantined) == (2, 1)
    quarantine = Cohort.open(tmp_path / "c").quarantine
    assert quarantine["code"].tolist() == ["converter-failed"]
    assert "signal 11" in quarantine["what"][0] and "/p2/" in quarantine["source"][0]
    assert sorted(Cohort.open(tmp_path / "c").participants["participant_id"]) == ["p1", "p3"]
