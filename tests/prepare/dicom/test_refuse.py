"""DICOM that has no right result: each is refused with a code and a way to fix it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from volta3d.prepare.dicom import convert_folder, survey
from volta3d.prepare.dicom.geometry import MIN_SLICES


def refusal(root: Path, work: Path) -> str:
    """The code of the only thing found in a folder."""
    candidates, refused = convert_folder(root, work)
    assert candidates == [] and len(refused) == 1
    path, finding = refused[0]
    assert path.is_relative_to(root)
    assert finding.level == "error" and finding.what and finding.how_to_fix
    return finding.code


def without(made: list[Dataset], name: str) -> list[Dataset]:
    for data in made:
        delattr(data, name)
    return made


@pytest.mark.parametrize(("gone", "missing"), [([7], 1), ([7, 8], 2), ([3, 12], 2)])
def test_D1_missing_slice(tmp_path: Path, dicom: ModuleType, gone: list[int], missing: int) -> None:
    made = [d for k, d in enumerate(dicom.slices()) if k not in gone]
    found = survey(dicom.write(tmp_path / "in", made))
    assert [f.code for _, f in found.refused] == ["missing-slice"]
    assert found.refused[0][1].what.startswith(f"{missing} of {len(made) + missing} slices")


def test_a_series_cut_off_in_its_numbers_is_flagged(tmp_path: Path, dicom: ModuleType) -> None:
    made = dicom.slices()
    made[-1].InstanceNumber = 30
    found = survey(dicom.write(tmp_path / "in", made))
    assert [f.code for f in found.series[0].findings] == ["instance-gap"]


def test_D2_conflicting_duplicates(tmp_path: Path, dicom: ModuleType) -> None:
    made = dicom.slices()
    (other,) = dicom.slices()[5:6]
    other.PixelData = (dicom.head()[5] + 1).astype("<i2").tobytes()
    root = dicom.write(tmp_path / "in", [*made, other])
    assert refusal(root, tmp_path / "work") == "conflicting-duplicates"


def test_several_volumes_in_one_series_are_not_chosen_from(
    tmp_path: Path, dicom: ModuleType
) -> None:
    root = dicom.write(tmp_path / "in", dicom.slices() + dicom.slices(dicom.head() + 1))
    assert refusal(root, tmp_path / "work") == "series"


@pytest.mark.parametrize("how", ["planes", "description", "image type"])
def test_D3_localiser(tmp_path: Path, dicom: ModuleType, how: str) -> None:
    if how == "planes":
        planes = ("axial", "sagittal", "coronal")
        made = [d for p in planes for d in dicom.slices(dicom.head()[:3], plane=p)]
    elif how == "description":
        made = dicom.slices(SeriesDescription="3-Plane Loc T1")
    else:
        made = dicom.slices(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert refusal(dicom.write(tmp_path / "in", made), tmp_path / "work") == "localiser"


def test_D4_irregular_gaps(tmp_path: Path, dicom: ModuleType) -> None:
    made = dicom.slices()
    made[9].ImagePositionPatient[2] += 1.2
    assert refusal(dicom.write(tmp_path / "in", made), tmp_path / "work") == "irregular-gaps"


def test_D5_no_position_or_orientation(tmp_path: Path, dicom: ModuleType) -> None:
    made = without(dicom.slices(), "ImagePositionPatient")
    assert refusal(dicom.write(tmp_path / "a", made), tmp_path / "work") == "no-position"
    made = without(dicom.slices(), "ImageOrientationPatient")
    assert refusal(dicom.write(tmp_path / "b", made), tmp_path / "work") == "no-orientation"
    made = dicom.slices(ImageOrientationPatient=[1, 0, 0, 1, 0, 0])
    assert refusal(dicom.write(tmp_path / "c", made), tmp_path / "work") == "no-orientation"
    made = dicom.slices(ImagePositionPatient=[0, 0, 0])
    assert refusal(dicom.write(tmp_path / "d", made), tmp_path / "work") == "too-few-slices"


def test_D6_no_spacing(tmp_path: Path, dicom: ModuleType) -> None:
    made = without(dicom.slices(), "PixelSpacing")
    assert refusal(dicom.write(tmp_path / "a", made), tmp_path / "work") == "no-spacing"
    made = dicom.slices(PixelSpacing=[0, 0])
    assert refusal(dicom.write(tmp_path / "b", made), tmp_path / "work") == "no-spacing"


@pytest.mark.parametrize("how", ["short element", "short file", "no element"])
def test_D7_truncated_pixels(tmp_path: Path, dicom: ModuleType, how: str) -> None:
    made = dicom.slices()
    if how == "short element":
        made[4].PixelData = made[4].PixelData[:-200]
    elif how == "no element":
        del made[4].PixelData
    root = dicom.write(tmp_path / "in", made)
    if how == "short file":
        raw = (root / "4.dcm").read_bytes()
        (root / "4.dcm").write_bytes(raw[:-200])
    assert refusal(root, tmp_path / "work") == "truncated-pixels"


@pytest.mark.parametrize("cut", [8, 12, 40, 200])  # the last 8 bytes only end the element
def test_D7_truncated_compressed_pixels(tmp_path: Path, dicom: ModuleType, cut: int) -> None:
    made = dicom.jpeg_2000(dicom.slices())
    root = dicom.write(tmp_path / "in", made)
    raw = (root / "4.dcm").read_bytes()
    (root / "4.dcm").write_bytes(raw[:-cut])
    assert refusal(root, tmp_path / "work") in ("truncated-pixels", "converter-failed")


@pytest.mark.parametrize("cut", [2, 40])
def test_D7_a_compressed_slice_shorter_than_it_was(
    tmp_path: Path, dicom: ModuleType, cut: int
) -> None:
    made = dicom.jpeg_2000(dicom.slices(), cut={4: cut})
    code = refusal(dicom.write(tmp_path / "in", made), tmp_path / "work")
    assert code in ("truncated-pixels", "converter-failed")


@pytest.mark.parametrize(
    "syntax",
    [
        "1.2.840.10008.1.2.4.100",  # MPEG-2
        "1.2.840.10008.1.2.4.51",  # JPEG extended, 12 bits
        "1.2.840.113619.5.2",  # private
    ],
)
def test_D8_no_decoder(tmp_path: Path, dicom: ModuleType, syntax: str) -> None:
    root = dicom.write(tmp_path / "in", dicom.slices())
    old = b"1.2.840.10008.1.2.1"
    for path in root.iterdir():  # the syntax is claimed, whatever the voxels are
        raw = path.read_bytes()
        head, _, rest = raw.partition(b"\x02\x00\x10\x00UI\x14\x00" + old + b"\0")
        claimed = syntax.encode() + b"\0" * (len(syntax) % 2)
        path.write_bytes(
            head + b"\x02\x00\x10\x00UI" + len(claimed).to_bytes(2, "little") + claimed + rest
        )
    assert refusal(root, tmp_path / "work") == "no-decoder"


def test_D8_a_deflated_file_is_not_inflated(tmp_path: Path, dicom: ModuleType) -> None:
    root = dicom.write(tmp_path / "in", dicom.slices()[:1])
    raw = (root / "0.dcm").read_bytes()
    old = b"UI\x14\x001.2.840.10008.1.2.1\0"
    (root / "0.dcm").write_bytes(raw.replace(old, b"UI\x16\x001.2.840.10008.1.2.1.99"))
    assert refusal(root, tmp_path / "work") == "no-decoder"


def test_D9_colour_and_secondary_capture(tmp_path: Path, dicom: ModuleType) -> None:
    made = dicom.slices(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    for data in made:
        data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
        data.PixelData = bytes(data.Rows * data.Columns * 3)
    assert refusal(dicom.write(tmp_path / "a", made), tmp_path / "work") == "rgb"
    made = dicom.slices()
    for data in made:
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    assert refusal(dicom.write(tmp_path / "b", made), tmp_path / "work") == "secondary-capture"


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"Modality": "CT"}, "not-mr"),
        ({"SeriesDescription": "ax t2 flair"}, "not-t1"),
        ({"SeriesDescription": "ep2d_diff_b1000"}, "not-t1"),
        ({"SeriesDescription": "", "EchoTime": 90, "InversionTime": 0}, "not-t1"),
        ({"SeriesDescription": "", "RepetitionTime": 4000, "InversionTime": 0}, "not-t1"),
        ({"SeriesDescription": "mp2rage INV1 t1"}, "not-t1"),
        ({"ImageType": ["DERIVED", "PRIMARY", "MPR"]}, "derived"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "derived"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P"]}, "not-magnitude"),
        ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, "no-decoder"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "bad-rescale"),
        ({"BitsStored": 20}, "no-decoder"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_what_is_not_a_t1_weighted_volume(
    tmp_path: Path, dicom: ModuleType, tags: dict[str, object], code: str
) -> None:
    assert refusal(dicom.write(tmp_path / "in", dicom.slices(**tags)), tmp_path / "work") == code


@pytest.mark.parametrize(
    ("tags", "codes"),
    [
        ({"SeriesDescription": "", "InversionTime": 900}, []),
        ({"SeriesDescription": "", "RepetitionTime": 500, "InversionTime": 0}, []),
        ({"SeriesDescription": "SAG 3D T1 MPR NAVIG"}, []),
        ({"SeriesDescription": "ax FSPGR BRAVO"}, []),
        ({"SeriesDescription": "brain", "EchoTime": None}, ["weighting-unknown"]),
        ({"ContrastBolusAgent": "something"}, ["contrast-agent"]),
        ({"ImageType": ["DERIVED", "PRIMARY", "M", "NORM"]}, ["derived"]),
        ({"ImageType": ["ORIGINAL", "SECONDARY", "M"]}, ["perhaps-burned-in"]),
        ({"LossyImageCompression": "01"}, ["lossy"]),
    ],
    ids=lambda v: str(v)[:40],
)
def test_what_is_one_with_what_is_noticed(
    tmp_path: Path, dicom: ModuleType, tags: dict[str, object], codes: list[str]
) -> None:
    found = survey(dicom.write(tmp_path / "in", dicom.slices(**tags)))
    assert [f.code for f in found.series[0].findings] == codes


def test_too_few_slices_and_mixed_sizes(tmp_path: Path, dicom: ModuleType) -> None:
    few = dicom.slices(dicom.head()[: MIN_SLICES - 1])
    assert refusal(dicom.write(tmp_path / "a", few), tmp_path / "work") == "too-few-slices"
    mixed = dicom.slices()
    mixed[3:4] = dicom.slices(dicom.head((20, 32, 26)))[3:4]
    assert refusal(dicom.write(tmp_path / "b", mixed), tmp_path / "work") == "mixed-sizes"
    mixed = dicom.slices()
    mixed[3].PixelSpacing = [2.5, 2.5]
    assert refusal(dicom.write(tmp_path / "c", mixed), tmp_path / "work") == "mixed-sizes"


def test_a_claim_of_a_huge_picture_allocates_nothing(tmp_path: Path, dicom: ModuleType) -> None:
    made = dicom.slices(Rows=65535, Columns=65535)
    assert refusal(dicom.write(tmp_path / "a", made), tmp_path / "work") == "too-large"
    (one,) = dicom.slices(dicom.head()[:1], NumberOfFrames=2**31 - 1)
    assert refusal(dicom.write(tmp_path / "b", [one]), tmp_path / "work") == "bad-dicom"


def test_slices_off_one_line(tmp_path: Path, dicom: ModuleType) -> None:
    made = dicom.slices()
    for number, data in enumerate(made):
        data.ImagePositionPatient[0] += 4 * np.sin(number)
    assert refusal(dicom.write(tmp_path / "in", made), tmp_path / "work") == "irregular-positions"


def test_one_bad_series_does_not_touch_the_other(tmp_path: Path, dicom: ModuleType) -> None:
    bad = [d for k, d in enumerate(dicom.slices(uid=2)) if k != 4]
    root = dicom.write(tmp_path / "in", dicom.slices() + bad)
    candidates, refused = convert_folder(root, tmp_path / "work")
    assert len(candidates) == 1 and [f.code for _, f in refused] == ["missing-slice"]
    dicom.assert_faithful(candidates[0].nifti, dicom.slices(), dicom.head())


def test_pydicom_s_settings_are_left_as_they_were(tmp_path: Path, dicom: ModuleType) -> None:
    import logging

    before = (logging.getLogger("pydicom").level, pydicom.config.settings.reading_validation_mode)
    with pydicom.config.disable_value_validation():
        root = dicom.write(tmp_path / "in", dicom.slices(PatientAge="x"))
    assert survey(root).series[0].header.age != survey(root).series[0].header.age  # unknown
    after = (logging.getLogger("pydicom").level, pydicom.config.settings.reading_validation_mode)
    assert after == before
