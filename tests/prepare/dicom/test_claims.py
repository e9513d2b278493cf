"""What DICOM headers say of themselves: maps, body parts, contrast agents, series in pieces."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from volta3d.prepare.dicom import Survey, survey


def codes(found: Survey) -> tuple[list[str], set[str]]:
    """Codes of what was refused, and of what was noticed about the series kept."""
    noticed = {f.code for series in found.series for f in series.findings}
    return sorted(f.code for _, f in found.refused), noticed


@pytest.mark.parametrize(
    ("tags", "refused"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "T1 MAP", "ND"]}, ["not-t1"]),
        ({"ImageType": ["DERIVED", "PRIMARY", "T2_STAR MAP"]}, ["not-t1"]),
        ({"SeriesDescription": "t1_map_VFA"}, ["not-t1"]),
        ({"SeriesDescription": "t1_mp2rage_sag_p3_iso_T1_Images"}, ["not-t1"]),
        ({"SeriesDescription": "t1_mp2rage_sag_p3_iso_INV2"}, ["not-t1"]),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP"]}, ["not-magnitude"]),
        ({"SeriesDescription": "t1_mp2rage_sag_p3_iso_UNI_Images"}, []),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "NORM"]}, []),
    ],
)
def test_C10_maps_and_parts_of_mp2rage_are_refused(
    tmp_path: Path, dicom: ModuleType, tags: dict[str, object], refused: list[str]
) -> None:
    found = survey(dicom.write(tmp_path, dicom.slices(**tags)))
    assert codes(found)[0] == refused
    if "UNI" in str(tags):
        assert "mp2rage-uniform" in codes(found)[1]


@pytest.mark.parametrize(
    ("part", "description", "refused", "noticed"),
    [
        ("CSPINE", "t1_tse_sag_cervical", True, False),
        ("KNEE", "t1_tse_cor_knee", True, False),
        ("", "T1 TSE LWS sag", True, False),
        ("SHOULDER", "localizer-free survey", True, False),
        ("CSPINE", "t1_mprage_sag", False, True),
        ("BRAIN", "t1_mprage_neck_coil", False, True),
        ("BRAIN", "t1_mprage_sag", False, False),
        ("HEAD", "t1_mprage_sag", False, False),
        ("", "t1_mprage_hippocampus", False, False),
    ],
)
def test_C11_other_body_parts_are_refused_or_noticed(
    tmp_path: Path, dicom: ModuleType, part: str, description: str, *, refused: bool, noticed: bool
) -> None:
    made = dicom.slices(BodyPartExamined=part, SeriesDescription=description)
    out, seen = codes(survey(dicom.write(tmp_path, made)))
    assert bool(out) is refused and ("other-body-part" in seen) is noticed


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"SeriesDescription": "t1_mprage_sag_post_GAD"}, True),
        ({"SeriesDescription": "T1 MPRAGE +C"}, True),
        ({"ContrastBolusAgent": "Dotarem"}, True),
        ({"ContrastBolusAgent": "NONE"}, False),
        ({"SeriesDescription": "t1_mprage_pre_contrast"}, False),
        ({"SeriesDescription": "t1_mprage without contrast"}, False),
    ],
)
def test_C11_a_contrast_agent_is_noticed_by_tag_and_by_word(
    tmp_path: Path, dicom: ModuleType, tags: dict[str, object], *, expected: bool
) -> None:
    _, seen = codes(survey(dicom.write(tmp_path, dicom.slices(**tags))))
    assert ("contrast-agent" in seen) is expected


def test_C15_a_uid_per_slice_is_put_together(tmp_path: Path, dicom: ModuleType) -> None:
    made = dicom.slices()
    whole = survey(dicom.write(tmp_path / "whole", made)).series
    for number, data in enumerate(made):
        data.SeriesInstanceUID, data.StudyInstanceUID = f"1.2.9.{number}", f"1.2.8.{number}"
    found = survey(dicom.write(tmp_path / "split", made))
    assert found.refused == () and len(found.series) == len(whole) == 1
    assert len(found.series[0].frames) == len(made)
    assert "series-uid-per-slice" in codes(found)[1]


def test_C15_two_such_series_stay_two(tmp_path: Path, dicom: ModuleType) -> None:
    first = dicom.slices(uid=1, SeriesNumber=4)
    second = dicom.slices(dicom.head() + 1, uid=2, SeriesNumber=5)
    for number, data in enumerate([*first, *second]):
        data.SeriesInstanceUID = f"1.2.9.{number}"
    found = survey(dicom.write(tmp_path, [*first, *second]))
    assert sorted(len(s.frames) for s in found.series) == [len(first), len(second)]


def test_C15_what_cannot_be_put_together_says_what_it_is(tmp_path: Path, dicom: ModuleType) -> None:
    made = dicom.slices()
    for number, data in enumerate(made):
        data.SeriesInstanceUID = f"1.2.9.{number}"
    del made[4]
    found = survey(dicom.write(tmp_path, made))
    assert found.series == () and len(found.refused) == 1
    assert "SeriesInstanceUID of its own" in found.refused[0][1].what
