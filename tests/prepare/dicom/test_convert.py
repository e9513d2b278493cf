"""DICOM that has a right result: it is found, sorted, converted, and lies where DICOM says."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRBigEndian, RLELossless

from volta3d.prepare import dicom as room
from volta3d.prepare.dicom import convert, convert_folder, survey
from volta3d.prepare.dicom.series import Series
from volta3d.prepare.findings import Refused


def only(root: Path) -> Series:
    found = survey(root)
    assert found.refused == ()
    assert len(found.series) == 1
    return found.series[0]


def codes(findings: Any) -> list[str]:
    return [f.code for f in findings]


@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal", "oblique"])
def test_every_plane_lies_where_the_standard_puts_it(
    tmp_path: Path, dicom: ModuleType, plane: str
) -> None:
    made = dicom.slices(plane=plane)
    series = only(dicom.write(tmp_path / "in", made))
    assert convert(series, tmp_path / "a.nii") == ()
    dicom.assert_faithful(tmp_path / "a.nii", made, dicom.head())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii", "in"]  # nothing left behind


def test_relative_paths(tmp_path: Path, dicom: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    made = dicom.slices()
    dicom.write(tmp_path / "in", made)
    monkeypatch.chdir(tmp_path)
    candidates, _ = convert_folder(Path("in"), Path("work"))
    dicom.assert_faithful(candidates[0].nifti, made, dicom.head())


def test_D10_shuffled_instance_numbers_and_names(tmp_path: Path, dicom: ModuleType) -> None:
    made = dicom.slices()
    rng = np.random.default_rng(0)
    for data, number in zip(made, rng.permutation(len(made)), strict=True):
        data.InstanceNumber = int(number) + 1
    names = [f"{k}.x" for k in rng.permutation(len(made))]
    series = only(dicom.write(tmp_path / "in", made, names))
    convert(series, tmp_path / "a.nii")
    dicom.assert_faithful(tmp_path / "a.nii", made, dicom.head())


def test_D11_two_series_in_one_folder(tmp_path: Path, dicom: ModuleType) -> None:
    first, second = dicom.slices(), dicom.slices(dicom.head()[:, ::-1] + 5, uid=2)
    mixed = [data for pair in zip(first, second, strict=True) for data in pair]
    found = survey(dicom.write(tmp_path / "in", mixed))
    assert len(found.series) == 2 and found.refused == ()
    for series, made, values in (
        (found.series[0], first, dicom.head()),
        (found.series[1], second, dicom.head()[:, ::-1] + 5),
    ):
        convert(series, tmp_path / "a.nii")
        dicom.assert_faithful(tmp_path / "a.nii", made, values)


def multi_frame(made: list[Dataset]) -> Dataset:
    """The same slices as one enhanced MR object, its frames in reverse order."""
    whole = Dataset()
    whole.update({e.tag: e for e in made[0] if e.keyword not in ("PixelData", "EchoTime")})
    whole.file_meta = made[0].file_meta
    whole.file_meta.MediaStorageSOPClassUID = whole.SOPClassUID = EnhancedMRImageStorage
    shared, plane, measures = Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = made[0].ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = made[0].PixelSpacing, "3.5"
    shared.PlaneOrientationSequence = Sequence([plane])
    shared.PixelMeasuresSequence = Sequence([measures])
    whole.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for data in made[::-1]:
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = data.ImagePositionPatient
        frame.PlanePositionSequence = Sequence([position])
        frames.append(frame)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(whole, name)
    whole.PerFrameFunctionalGroupsSequence = Sequence(frames)
    whole.NumberOfFrames = len(made)
    whole.PixelData = b"".join(data.PixelData for data in made[::-1])
    whole["PixelData"].VR = "OW"
    return whole


def test_D12_multi_frame_equals_single_frames(tmp_path: Path, dicom: ModuleType) -> None:
    made = dicom.slices(plane="sagittal")
    convert(only(dicom.write(tmp_path / "single", made)), tmp_path / "single.nii")
    series = only(dicom.write(tmp_path / "many", [multi_frame(dicom.slices(plane="sagittal"))]))
    assert len(series.files) == 1 and len(series.frames) == len(made)
    convert(series, tmp_path / "many.nii")
    dicom.assert_faithful(tmp_path / "many.nii", made, dicom.head())
    assert (tmp_path / "many.nii").read_bytes() == (tmp_path / "single.nii").read_bytes()


def test_D13_multi_echo_takes_the_shortest_and_says_so(tmp_path: Path, dicom: ModuleType) -> None:
    late = dicom.slices(dicom.head() // 2, EchoTime=7.5, EchoNumbers=2)
    early = dicom.slices(EchoTime=2.5, EchoNumbers=1)
    series = only(dicom.write(tmp_path / "in", late + early))
    assert codes(series.findings) == ["multi-echo"]
    assert "2 echoes" in series.findings[0].what and "2.5 ms" in series.findings[0].what
    convert(series, tmp_path / "a.nii")
    dicom.assert_faithful(tmp_path / "a.nii", early, dicom.head())


def test_D14_rescale(tmp_path: Path, dicom: ModuleType) -> None:
    made = dicom.slices(RescaleSlope=2.5, RescaleIntercept=-100)
    assert codes(convert(only(dicom.write(tmp_path / "in", made)), tmp_path / "a.nii")) == [
        "rescaled"
    ]
    # exact in float32: halves of small integers
    dicom.assert_faithful(tmp_path / "a.nii", made, dicom.head() * np.float32(2.5) - 100)


def test_D14_a_slope_of_its_own_in_every_slice(tmp_path: Path, dicom: ModuleType) -> None:
    made = dicom.slices()
    slopes = 1 + np.arange(len(made), dtype=np.float32) / 4
    for data, slope in zip(made, slopes, strict=True):
        data.RescaleSlope, data.RescaleIntercept = float(slope), 0
    noticed = convert(only(dicom.write(tmp_path / "in", made)), tmp_path / "a.nii")
    assert "slice by slice" in noticed[0].what
    dicom.assert_faithful(tmp_path / "a.nii", made, dicom.head() * slopes[:, None, None])


def test_D14_monochrome1_is_inverted(tmp_path: Path, dicom: ModuleType) -> None:
    made = dicom.slices(500 - dicom.head(), PhotometricInterpretation="MONOCHROME1")
    noticed = convert(only(dicom.write(tmp_path / "in", made)), tmp_path / "a.nii")
    assert codes(noticed) == ["monochrome1"]
    values = dicom.head().astype(np.float32)
    # bright stays bright: the stored values 500 - v become (max + min) - (500 - v)
    shift = float((500 - values).max() + (500 - values).min() - 500)
    dicom.assert_faithful(tmp_path / "a.nii", made, values + np.float32(shift))


@pytest.mark.parametrize("kind", ["signed 16", "signed 12", "unsigned 16", "12 with overlay", "8"])
def test_D15_signed_and_twelve_bits(tmp_path: Path, dicom: ModuleType, kind: str) -> None:
    values, tags = dicom.head().astype(np.int64), {}
    stored = values
    if kind == "signed 16":
        values = stored = values - 120
        tags = {"PixelRepresentation": 1, "BitsStored": 16, "HighBit": 15}
    elif kind == "signed 12":
        values = values - 120
        stored, tags = values & 0xFFF, {"PixelRepresentation": 1}
    elif kind == "unsigned 16":
        values = stored = values * 170  # beyond what int16 holds
        assert values.max() > 32767
        tags = {"BitsStored": 16, "HighBit": 15}
    elif kind == "12 with overlay":
        stored = values | 0x8000  # an old overlay in the unused bits
    else:
        values = stored = values // 2
        tags = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    made = dicom.slices(values, **tags)
    for data, one in zip(made, stored, strict=True):
        data.PixelData = one.astype("<u1" if kind == "8" else "<u2", casting="unsafe").tobytes()
    convert(only(dicom.write(tmp_path / "in", made)), tmp_path / "a.nii")
    dicom.assert_faithful(tmp_path / "a.nii", made, values)


def test_big_endian_and_run_length_coding(tmp_path: Path, dicom: ModuleType) -> None:
    big = dicom.slices()
    for data in big:
        data.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        data.PixelData = np.frombuffer(data.PixelData, "<i2").astype(">i2").tobytes()
    convert(only(dicom.write(tmp_path / "big", big)), tmp_path / "a.nii")
    dicom.assert_faithful(tmp_path / "a.nii", big, dicom.head())
    packed = dicom.slices()
    for data in packed:
        data.compress(RLELossless, generate_instance_uid=False)
    convert(only(dicom.write(tmp_path / "rle", packed)), tmp_path / "a.nii")
    dicom.assert_faithful(tmp_path / "a.nii", packed, dicom.head())


def test_jpeg_2000_is_decoded_by_the_converter(tmp_path: Path, dicom: ModuleType) -> None:
    made = dicom.jpeg_2000(dicom.slices())
    convert(only(dicom.write(tmp_path / "in", made)), tmp_path / "a.nii")
    dicom.assert_faithful(tmp_path / "a.nii", made, dicom.head())


def test_D16_stray_files_are_ignored_and_counted(tmp_path: Path, dicom: ModuleType) -> None:
    made = dicom.slices()
    root = dicom.write(tmp_path / "in" / "deep" / "er", made[:9]).parent.parent
    dicom.write(root / "other", made[9:], [f"IM{k}" for k in range(len(made) - 9)])
    (root / "notes.txt").write_text("not DICOM")
    (root / ".DS_Store").write_bytes(b"\0" * 300)
    (root / "empty.dcm").write_bytes(b"")
    report = Dataset()
    report.file_meta = made[0].file_meta
    report.SOPClassUID, report.Modality = "1.2.840.10008.5.1.4.1.1.88.11", "SR"
    report.SOPInstanceUID = "1.2.3"
    pydicom.dcmwrite(root / "report", report, enforce_file_format=True)
    found = survey(root)
    assert (found.strays, found.objects, found.refused) == (3, 1, ())
    assert codes(found.series[0].findings) == ["stray-files"]
    assert found.series[0].findings[0].what.startswith("3 files that are not DICOM and 1 without")
    convert(found.series[0], tmp_path / "a.nii")
    dicom.assert_faithful(tmp_path / "a.nii", made, dicom.head())


def test_a_zip_and_files_without_a_preamble(tmp_path: Path, dicom: ModuleType) -> None:
    made = dicom.slices()
    root = dicom.write(tmp_path / "in", made)
    for path in root.iterdir():
        if path.name < "5":
            raw = path.read_bytes()
            path.write_bytes(raw[132:])
    with zipfile.ZipFile(tmp_path / "study.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in root.iterdir():
            archive.write(path, f"some folder/{path.name}")
        archive.writestr("readme", "nothing")
    candidates, refused = convert_folder(tmp_path / "study.zip", tmp_path / "work")
    assert refused == () and len(candidates) == 1
    dicom.assert_faithful(candidates[0].nifti, made, dicom.head())
    assert candidates[0].series.path == tmp_path / "study.zip" / "some folder" / "0.dcm"


@pytest.mark.parametrize(("plane", "axis"), [("axial", 1), ("sagittal", 2), ("coronal", 0)])
def test_D17_gantry_tilt_is_detected_and_kept_in_the_affine(
    tmp_path: Path, dicom: ModuleType, plane: str, axis: int
) -> None:
    made = dicom.slices(plane=plane)
    for number, data in enumerate(made):
        data.ImagePositionPatient[axis] += number * 0.9  # 3.5 mm apart: 14 degrees
    series = only(dicom.write(tmp_path / "in", made))
    assert codes(series.findings) == ["gantry-tilt"]
    assert "14.4 degrees" in series.findings[0].what  # atan(0.9 / 3.5)
    convert(series, tmp_path / "a.nii")
    dicom.assert_faithful(tmp_path / "a.nii", made, dicom.head())


def test_identical_duplicates_are_left_out(tmp_path: Path, dicom: ModuleType) -> None:
    made = dicom.slices()
    root = dicom.write(tmp_path / "in", made)
    dicom.write(root / "copy", made[3:6])
    series = only(root)
    assert codes(convert(series, tmp_path / "a.nii")) == ["duplicates"]
    dicom.assert_faithful(tmp_path / "a.nii", made, dicom.head())


def fake(tmp_path: Path, body: str) -> list[str]:
    script = tmp_path / "fake.py"
    script.write_text(body)
    return [sys.executable, str(script)]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "converter-failed"),
        ("raise SystemExit(2)", "converter-failed"),
        ("pass", "converter-failed"),
        ("import time; time.sleep(60)", "converter-timeout"),
    ],
)
def test_D18_a_converter_that_fails_is_a_typed_refusal(
    tmp_path: Path, dicom: ModuleType, body: str, code: str
) -> None:
    series = only(dicom.write(tmp_path / "in", dicom.slices()))
    with pytest.raises(Refused) as error:
        convert(series, tmp_path / "a.nii", command=fake(tmp_path, body), seconds=2)
    assert error.value.finding.code == code and error.value.finding.how_to_fix
    assert not (tmp_path / "a.nii").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fake.py", "in"]


LYING = """
import sys, numpy as np, nibabel as nib, pathlib
out = pathlib.Path(sys.argv[sys.argv.index("-o") + 1])
good = nib.load(r"{good}")
data, affine = np.asarray(good.dataobj), good.affine.copy()
{change}
image = nib.Nifti1Image(data, affine)
nib.save(image, out / "volume.nii")
{more}
"""


@pytest.mark.parametrize(
    "change",
    [
        "data = data[::-1]",  # left and right
        "data = data[:, :, :-1]",  # a slice lost
        "affine[0, 3] += 1",  # a shift
        "affine[:3, 0] *= 1.01",  # a spacing
        "data = data.copy(); data[9, 9, 9] += 1",  # one voxel
        "data = data[:, :, [1, 0] + list(range(2, data.shape[2]))]",  # two slices swapped
    ],
)
def test_the_converter_is_not_believed(tmp_path: Path, dicom: ModuleType, change: str) -> None:
    series = only(dicom.write(tmp_path / "in", dicom.slices()))
    convert(series, tmp_path / "good.nii")
    body = LYING.format(good=tmp_path / "good.nii", change=change, more="")
    with pytest.raises(Refused) as error:
        convert(series, tmp_path / "a.nii", command=fake(tmp_path, body))
    assert error.value.finding.code == "converter-mismatch"


def test_the_choice_among_several_outputs_is_recorded(tmp_path: Path, dicom: ModuleType) -> None:
    made = dicom.slices()
    series = only(dicom.write(tmp_path / "in", made))
    convert(series, tmp_path / "good.nii")
    more = 'nib.save(nib.Nifti1Image(data[::-1], affine), out / "volume_Eq_1.nii")'
    body = LYING.format(good=tmp_path / "good.nii", change="", more=more)
    noticed = convert(series, tmp_path / "a.nii", command=fake(tmp_path, body))
    assert codes(noticed) == ["converter-outputs"]
    assert "took volume.nii" in noticed[0].what and "volume_Eq_1.nii" in noticed[0].what
    dicom.assert_faithful(tmp_path / "a.nii", made, dicom.head())


def test_the_room_says_what_it_offers() -> None:
    assert all(hasattr(room, name) for name in room.__all__)


def test_the_staged_files_hold_geometry_and_voxels_and_nothing_else(
    tmp_path: Path, dicom: ModuleType
) -> None:
    from volta3d.prepare.dicom.geometry import stack
    from volta3d.prepare.dicom.stage import stage

    made = dicom.slices(plane="oblique", PatientID="A", PixelAspectRatio=["1", "1"])
    series = only(dicom.write(tmp_path / "in", made))
    planes = stack(series.frames, series.header.rows, series.header.columns)
    (tmp_path / "staged").mkdir()
    stage(series, planes, tmp_path / "staged")
    for number, (data, values) in enumerate(zip(made, dicom.head(), strict=True), 1):
        read = pydicom.dcmread(tmp_path / "staged" / f"{number}.dcm")
        assert len(read) == 23 and "PatientID" not in read
        np.testing.assert_array_equal(read.pixel_array, values)
        # 1e-9: sixteen characters hold eleven digits of numbers below a thousand
        np.testing.assert_allclose(read.ImagePositionPatient, data.ImagePositionPatient, atol=1e-9)
        np.testing.assert_allclose(
            read.ImageOrientationPatient, data.ImageOrientationPatient, atol=1e-9
        )
        assert list(read.PixelSpacing) == list(dicom.SPACING)
        assert read.SpacingBetweenSlices == pytest.approx(dicom.GAP, abs=1e-9)
