"""The synthetic archives are what the layouts take the real ones for, oddities included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from volta3d.errors import UsageError, VoltaError
from volta3d.phantom.anatomy import load_anatomy
from volta3d.phantom.archives import ARCHIVES, write_archives
from volta3d.phantom.archives.__main__ import main
from volta3d.phantom.archives.scans import SCANNER_BASES, Camera, people
from volta3d.prepare.layouts import detect, discover
from volta3d.prepare.scan import MergedLabel, Scan

SPACING = 7.0


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archives(tmp_path_factory.mktemp("phantom") / "archives", spacing=SPACING)


def scans(archives: Path, name: str) -> tuple[Scan, ...]:
    return discover(archives / ARCHIVES[name]).scans


def codes(found: tuple[Scan, ...]) -> set[str]:
    return {f.code for scan in found for f in scan.findings}


@pytest.mark.parametrize("name", ARCHIVES)
def test_each_archive_is_recognised_without_being_named(archives: Path, name: str) -> None:
    assert detect(archives / ARCHIVES[name]) == name
    assert discover(archives / ARCHIVES[name]).refused == ()


def test_adni_is_dicom_with_repeats_later_visits_and_missing_rows(archives: Path) -> None:
    found = scans(archives, "adni")
    assert len({s.participant_id for s in found}) == 12 < len(found)
    assert all(s.series is not None for s in found)
    assert {"CN", "MCI", "AD"} <= {s.diagnosis for s in found}
    assert {"several-scans", "diagnosis-of-group"} <= codes(found)
    assert all(s.sex in ("M", "F") for s in found)
    assert {"sc", "m24"} <= {s.session for s in found}


def test_harp_people_are_in_adni_with_two_label_files_in_their_own_orientation(
    archives: Path,
) -> None:
    found = scans(archives, "harp")
    assert {s.participant_id for s in found} <= {s.participant_id for s in scans(archives, "adni")}
    labelled = [s for s in found if isinstance(s.label, MergedLabel)]
    assert (len(found), len(labelled)) == (8, 7)
    assert "one-sided-label" in codes(found)
    for scan in labelled[:2]:
        assert isinstance(scan.label, MergedLabel)
        file = scan.label.parts[0][1]
        assert nib.aff2axcodes(nib.load(file).affine) == ("L", "A", "S")
        assert nib.aff2axcodes(nib.load(scan.source).affine) == ("P", "S", "R")
        assert {p.name.rpartition("_")[2] for p in file.parent.glob(f"*{scan.participant_id}*")}
    folders = {p.name for p in (archives / ARCHIVES["harp"]).iterdir()}
    assert folders == {"ADNI", "Labels_100_NIFTI", "Labels_35_NIFTI"}


def test_aibl_has_several_visits_converters_and_a_diagnosis_that_is_missing(archives: Path) -> None:
    found = scans(archives, "aibl")
    courses: dict[str, list[str]] = {}
    for scan in found:
        courses.setdefault(scan.participant_id, []).append(scan.diagnosis)
    assert ["CN", "MCI", "AD"] in courses.values() and ["MCI", "AD"] in courses.values()
    assert len(courses) == 12 and max(len(c) for c in courses.values()) == 3
    first = [next((d for d in c if d in ("CN", "AD")), "") for c in courses.values()]
    assert min(first.count("CN"), first.count("AD")) >= 5  # enough for five folds
    assert {"diagnosis-of-all-visits", "age-from-year"} <= codes(found)


def test_brats_has_three_challenges_stripped_and_labelled(archives: Path) -> None:
    found = scans(archives, "brats")
    assert {s.dataset for s in found} == {"brats-gli", "brats-met", "brats-ped"}
    assert any(s.label is None for s in found) and any(s.label_names for s in found)
    values = np.asarray(nib.load(found[0].source).dataobj)
    assert (values == 0).mean() > 0.5
    assert {s.session for s in found if s.participant_id == "BraTS-GLI-00005"} == {"100", "101"}


def test_ixi_has_three_hospitals_and_a_table_with_holes(archives: Path) -> None:
    found = scans(archives, "ixi")
    assert {s.site for s in found} == {"Guys", "HH", "IOP"} and len(found) == 20
    assert [s.sex for s in found].count("") == 2 and sum(s.age != s.age for s in found) == 2
    assert {"no-participant-row", "repeated-participant"} <= codes(found)


def test_a_scan_is_a_function_of_person_visit_and_seed(archives: Path) -> None:
    person = people("ixi", ["IXI002", "IXI007"], (20, 80), 0)[0]
    anatomy = load_anatomy(2)

    def taken(seed: int = 0, **how: Any) -> np.ndarray:
        camera = Camera(anatomy, SPACING, seed)
        return camera.take(person, SCANNER_BASES["ixi"], **how).image

    assert np.array_equal(taken(), taken())
    for other in (taken(1), taken(n=1), taken(years=2), taken(diagnosis="AD")):
        assert not np.array_equal(taken(), other)


def test_what_is_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    with pytest.raises(VoltaError, match="other files"):
        write_archives(tmp_path / "mine")
    with pytest.raises(UsageError, match="out of range"):
        write_archives(tmp_path / "new", size=0)
    assert main([str(tmp_path / "mine")]) == 1
    assert "other files" in capsys.readouterr().err
