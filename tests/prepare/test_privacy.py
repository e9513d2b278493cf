"""Nothing that names a person leaves ``prepare``: not a byte of a table, a picture, a log."""

from __future__ import annotations

import dataclasses
import gzip
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from volta3d.cli import main
from volta3d.cohort.store import Cohort
from volta3d.errors import ConfigError, UsageError, VoltaError
from volta3d.prepare import prepare, privacy
from volta3d.prepare.dicom import header as header_room
from volta3d.prepare.dicom import survey
from volta3d.prepare.dicom import voxels as voxels_room
from volta3d.prepare.dicom.conversion import convert
from volta3d.prepare.findings import Finding

SMALL = ["--set", "size=16", "--set", "spacing=6"]
TEXTS = [
    "PatientName", "PatientID", "OtherPatientNames", "PatientAddress", "PatientMotherBirthName",
    "PatientComments", "EthnicGroup", "Occupation", "AdditionalPatientHistory",
    "ReferringPhysicianName", "InstitutionName", "InstitutionAddress",
    "InstitutionalDepartmentName", "StationName", "PerformingPhysicianName", "OperatorsName",
    "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "RequestingPhysician",
    "AccessionNumber", "StudyID", "StudyDescription", "SeriesDescription", "ProtocolName",
    "SequenceName", "ImageComments", "DeviceSerialNumber", "Manufacturer",
    "ManufacturerModelName", "SoftwareVersions", "RequestedProcedureDescription",
    "PerformedProcedureStepDescription", "ContrastBolusAgent", "RequestAttributesSequence",
    "BodyPartExamined", "MilitaryRank", "MedicalRecordLocator", "DerivationDescription",
]  # fmt: skip
OTHERS = {
    "StudyInstanceUID": "1.2.840.77001770.1",
    "SeriesInstanceUID": "1.2.840.77001770.2",
    "SOPInstanceUID": "1.2.840.77001770.3",
    "FrameOfReferenceUID": "1.2.840.77001770.4",
    "PatientBirthDate": "19370717",
    "StudyDate": "20070917",
    "StudyTime": "070707.170717",
}


def tainted(dicom: ModuleType) -> tuple[list[Dataset], list[bytes]]:
    """A series with a canary in 40 tags or more, and the canaries."""
    canaries: list[str] = []
    made = dicom.slices()
    for number, name in enumerate(TEXTS):
        canary = f"CANARY{number:02d}X"
        if tag_for_keyword(name) is None:
            continue
        canaries.append(canary)
        for data in made:
            if name == "RequestAttributesSequence":
                inner = Dataset()
                inner.ScheduledProcedureStepDescription = canary
                data.RequestAttributesSequence = Sequence([inner])
            else:
                setattr(data, name, canary + (" t1" if name == "SeriesDescription" else ""))
    for data in made:
        for name, value in OTHERS.items():
            setattr(data, name, value)
        block = data.private_block(0x0029, "CANARY98X", create=True)
        block.add_new(0x10, "LO", "CANARY99X")
    return made, [c.encode() for c in (*canaries, *OTHERS.values(), "CANARY98X", "CANARY99X")]


def everything(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The name and bytes of every file of a cohort, compressed ones unpacked as well."""
    for path in sorted(folder.rglob("*")):
        yield f"name of {path}", str(path.relative_to(folder)).encode()
        if path.is_file():
            raw = path.read_bytes()
            yield str(path), raw
            if path.suffix == ".png":
                picture = Image.open(path)
                yield f"pixels of {path}", np.asarray(picture).tobytes()
                yield f"text of {path}", repr(picture.info).encode()
            if raw[:2] == b"\x1f\x8b":
                yield f"inside {path}", gzip.decompress(raw)
    cohort = Cohort.open(folder)
    for index in range(len(cohort)):
        yield f"volume {index}", np.asarray(cohort.volume(index)).tobytes()


def leaks(canaries: list[bytes], places: Iterator[tuple[str, bytes]]) -> list[str]:
    return [
        f"{canary.decode()} in {where}"
        for where, raw in places
        for canary in canaries
        if canary.lower() in raw.lower() or canary.lower() in raw.lower().replace(b"\0", b"")
    ]


def run(*arguments: str) -> int:
    try:
        main(["prepare", *arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_P1_no_canary_of_a_dicom_header_reaches_an_output_byte(
    tmp_path: Path, dicom: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    made, canaries = tainted(dicom)
    assert len(canaries) >= 40
    root = dicom.write(tmp_path / "study", made)
    bad = tainted(dicom)[0][:12]
    for data in bad:
        data.SeriesInstanceUID = "1.2.840.77001770.5"
        data.PixelData = data.PixelData[:-100]
    dicom.write(root, bad)
    assert run(str(root), "--out", str(tmp_path / "c"), "--debug", *SMALL) == 3
    said = capfd.readouterr()
    assert "truncated-pixels" in (tmp_path / "c" / "quarantine.tsv").read_text()
    assert leaks(canaries, everything(tmp_path / "c")) == []
    assert leaks(canaries, iter([("out", said.out.encode()), ("err", said.err.encode())])) == []
    row = Cohort.open(tmp_path / "c").participants.iloc[0]
    assert (row["sex"], row["age"]) == ("F", 67.0)  # what may leave did


def test_P1_the_converter_and_its_folder_see_no_canary_either(
    tmp_path: Path, dicom: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, canaries = tainted(dicom)
    from volta3d.prepare.dicom import conversion as module

    seen: list[tuple[str, bytes]] = []
    real = module.run_converter

    def spy(staged: Path, out: Path, **options: Any) -> list[Path]:
        seen.extend((p.name, p.read_bytes()) for p in staged.iterdir())
        made = real(staged, out, **options)
        seen.extend((p.name, p.read_bytes()) for p in out.rglob("*") if p.is_file())
        return made

    monkeypatch.setattr(module, "run_converter", spy)
    series = survey(dicom.write(tmp_path / "in", made)).series[0]
    convert(series, tmp_path / "a.nii")
    assert len(seen) > len(made)
    assert leaks(canaries, iter(seen)) == []
    assert leaks(canaries, iter([("nifti", (tmp_path / "a.nii").read_bytes())])) == []


def canary_tree(tmp_path: Path, nifti: Callable[..., Path]) -> Path:
    """A folder whose every name is a canary: a good scan, one with labels, a broken one."""
    root = tmp_path / "CANARYROOT"
    rng = np.random.default_rng(0)
    for name in ("CANARYADA", "CANARYBOB"):
        data = np.zeros((20, 22, 24), np.int16)
        data[3:17, 3:19, 3:21] = rng.integers(50, 150, (14, 16, 18))
        nifti(root / name / "CANARYVISIT" / f"{name}_CANARYFILE.nii.gz", data, np.eye(4) * 2)
    marks = np.zeros((20, 22, 24), np.uint8)
    marks[5:9, 5:9, 5:9] = 1
    nifti(root / "CANARYADA/CANARYVISIT/CANARYADA_CANARYFILE_seg.nii.gz", marks, np.eye(4) * 2)
    (root / "CANARYEVE").mkdir()
    (root / "CANARYEVE" / "CANARYBROKEN.nii.gz").write_bytes(b"CANARYCONTENT")
    rows = "file,participant_id,sex,age,site,diagnosis\n"
    for name in ("CANARYADA", "CANARYBOB"):
        rows += f"{name}/CANARYVISIT/{name}_CANARYFILE.nii.gz,{name},CANARYSEX,40,X,\n"
    (root / "participants.csv").write_text(rows)
    return root


def test_P2_P6_no_name_of_a_person_folder_or_file_leaves_under_pseudonyms(
    tmp_path: Path, nifti: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    root, key = canary_tree(tmp_path, nifti), tmp_path / "keys" / "study.key"
    out = tmp_path / "c"
    assert run(str(root), "--out", str(out), "--debug", "--pseudonyms", str(key), *SMALL) == 3
    said = capfd.readouterr()
    assert leaks([b"CANARY"], everything(out)) == []
    assert leaks([b"CANARY"], iter([("out", said.out.encode()), ("err", said.err.encode())])) == []
    cohort = Cohort.open(out)
    assert len(cohort) == 2 and cohort.participants["participant_id"].nunique() == 2
    assert list(cohort.participants["sex"]) == ["", ""]
    assert sum(cohort.participants["label_file"] != "") == 1
    assert list(cohort.quarantine["source"].str.startswith("file-")) == [True]
    # the owner of the key can look a pseudonym up
    names = privacy.names_file(key).read_text()
    broken = next(line for line in names.splitlines() if "CANARYBROKEN" in line)
    assert broken.startswith(cohort.quarantine["source"].iloc[0])
    for private in (key, privacy.names_file(key)):
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
    # again: nothing to do, the same pseudonyms
    before = (out / "participants.tsv").read_text()
    again = prepare([root], out, pseudonyms=key, config=cohort_config())
    assert (again.prepared, again.skipped) == (0, 2)
    assert (out / "participants.tsv").read_text() == before


def cohort_config() -> Any:
    from volta3d.config import PrepareConfig

    return PrepareConfig(size=16, spacing=6)


def test_P2_folders_of_dicom_under_pseudonyms(tmp_path: Path, dicom: ModuleType) -> None:
    root = tmp_path / "CANARYHOSPITAL"
    for number, name in enumerate(("CANARYADA", "CANARYBOB")):
        made = dicom.slices(uid=number, study=number, PatientID=name)
        dicom.write(root / name / "CANARYSERIES", made, [f"CANARY{k}" for k in range(len(made))])
    prepare([root], tmp_path / "c", pseudonyms=tmp_path / "key", config=cohort_config())
    assert leaks([b"CANARY"], everything(tmp_path / "c")) == []
    assert Cohort.open(tmp_path / "c").participants["participant_id"].nunique() == 2


def test_P3_text_fields_and_extensions_of_nifti_are_left_behind(
    tmp_path: Path, nifti: Callable[..., Path]
) -> None:
    data = np.zeros((20, 22, 24), np.int16)
    data[3:17, 3:19, 3:21] = np.random.default_rng(0).integers(50, 150, (14, 16, 18))
    image = nib.Nifti1Image(data, np.eye(4) * 2)
    for field in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[field] = b"CANARY" + field[:4].encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"CANARYEXTENSION"))
    (tmp_path / "in").mkdir()
    nib.save(image, tmp_path / "in" / "scan.nii.gz")
    assert b"CANARYEXT" in gzip.decompress((tmp_path / "in" / "scan.nii.gz").read_bytes())
    prepare([tmp_path / "in"], tmp_path / "c", config=cohort_config())
    assert leaks([b"CANARY"], everything(tmp_path / "c")) == []


@pytest.mark.parametrize("how", ["nothing prepared", "unforeseen", "broken table"])
def test_P4_errors_and_tracebacks_carry_pseudonyms(
    tmp_path: Path,
    nifti: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    root = canary_tree(tmp_path, nifti)
    if how == "nothing prepared":
        for path in root.rglob("*.nii.gz"):
            path.write_bytes(b"CANARYCONTENT")
    elif how == "unforeseen":

        def fail(*_: Any) -> None:
            raise RuntimeError(f"CANARYTEXT {root / 'CANARYADA'}")

        monkeypatch.setattr("volta3d.prepare.run.gather", fail)
    else:
        (root / "participants.csv").unlink()
        (root / "participants.csv").mkdir()
        (root / "participants.tsv").symlink_to(root / "CANARYLOOP")
    arguments = [str(root), "--out", str(tmp_path / "c"), "--pseudonyms", str(tmp_path / "k")]
    code = run(*arguments, "--debug", *SMALL)
    said = capfd.readouterr()
    if how != "broken table":
        assert code == 1 and "Traceback" in said.err
    assert "CANARY" not in said.out + said.err


def test_P5_what_leaves_a_header_is_an_allow_list(tmp_path: Path, dicom: ModuleType) -> None:
    made = dicom.slices(
        Manufacturer="SIEMENS",
        ManufacturerModelName="Prisma_fit",
        MagneticFieldStrength=3,
        PatientAge="018M",
        FlipAngle=9,
    )
    series = survey(dicom.write(tmp_path / "in", made)).series[0]
    assert series.acquisition == {
        "manufacturer": "Siemens",
        "model": "Prisma_fit",
        "field_strength": 3.0,
        "echo_time": 3.0,
        "repetition_time": 2000.0,
        "inversion_time": 900.0,
        "flip_angle": 9.0,
        "contrast_agent": False,
    }
    assert series.header.age == 1.5
    # free text comes out as words of a fixed vocabulary only, ids as hashes that stay in memory
    tainted_series = survey(dicom.write(tmp_path / "b", tainted(dicom)[0])).series[0]
    fields = dataclasses.asdict(tainted_series.header)
    for name in ("frames", "moment"):  # the files' own names; the order of visits
        fields.pop(name)
    assert "CANARY" not in repr(fields) and "77001770" not in repr(fields)
    assert tainted_series.acquisition.keys() <= series.acquisition.keys()
    # nothing is read that is not on the list
    assert len(header_room.TAGS) == len(set(header_room.TAGS)) == 47
    assert set(voxels_room.TAGS) - {"PixelData"} <= set(header_room.TAGS)


def test_P6_the_key_decides_and_stays_outside(tmp_path: Path, nifti: Callable[..., Path]) -> None:
    one = privacy.open_pseudonymiser(tmp_path / "one", tmp_path / "out", [])
    same = privacy.open_pseudonymiser(tmp_path / "one", tmp_path / "out", [])
    other = privacy.open_pseudonymiser(tmp_path / "two", tmp_path / "out", [])
    assert one.name("sub", "ada") == same.name("sub", "ada") != other.name("sub", "ada")
    assert one.name("sub", "ada") != one.name("sub", "bob") and one.name("sub", "") == ""
    import hashlib
    import hmac

    key = bytes.fromhex((tmp_path / "one").read_text().strip())
    expected = hmac.new(key, b"sub\0ada", hashlib.sha256).hexdigest()[:12]
    assert one.name("sub", "ada") == f"sub-{expected}"
    inside = tmp_path / "out" / "deep" / "key"
    with pytest.raises(UsageError, match="output"):
        privacy.open_pseudonymiser(inside, tmp_path / "out", [])
    assert not inside.exists()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(UsageError, match="output"):
        privacy.open_pseudonymiser(tmp_path / "link" / "key", tmp_path / "out", [])
    with pytest.raises(UsageError, match="source"):
        privacy.open_pseudonymiser(tmp_path / "in" / "key", tmp_path / "out", [tmp_path / "in"])
    for content in ("", "short", "z" * 64):
        (tmp_path / "bad").write_text(content)
        with pytest.raises(ConfigError, match="no key"):
            privacy.open_pseudonymiser(tmp_path / "bad", tmp_path / "out", [])


def test_P6_one_person_has_one_pseudonym_in_two_cohorts(
    tmp_path: Path, nifti: Callable[..., Path]
) -> None:
    root = canary_tree(tmp_path, nifti)
    people = []
    for name in ("a", "b"):
        source = tmp_path / name / "elsewhere"
        source.parent.mkdir()
        root.rename(source)
        prepare(
            [source], tmp_path / f"c{name}", pseudonyms=tmp_path / "key", config=cohort_config()
        )
        people.append(set(Cohort.open(tmp_path / f"c{name}").participants["participant_id"]))
        source.rename(root)
    assert people[0] == people[1]


def test_P7_burned_in_text_is_flagged(tmp_path: Path, dicom: ModuleType) -> None:
    found = survey(dicom.write(tmp_path / "a", dicom.slices(BurnedInAnnotation="YES")))
    assert [f.code for _, f in found.refused] == ["burned-in"]
    values = dicom.head()
    values[:, 1:4, 2:20:2] = 900  # letters in the margin of every slice
    series = survey(dicom.write(tmp_path / "b", dicom.slices(values))).series[0]
    assert [f.code for f in convert(series, tmp_path / "a.nii")] == ["perhaps-burned-in"]
    made = dicom.slices()
    for data in made:
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    found = survey(dicom.write(tmp_path / "c", made))
    assert [f.code for _, f in found.refused] == ["secondary-capture"]


def test_P8_the_quality_page_says_that_faces_are_visible(tmp_path: Path, dicom: ModuleType) -> None:
    root = dicom.write(tmp_path / "in", dicom.slices())
    prepare([root], tmp_path / "c", config=cohort_config())
    assert Cohort.open(tmp_path / "c").contract.skull_strip == "none"
    assert "Faces are visible" in (tmp_path / "c" / "qc" / "index.html").read_text()


def test_P9_the_converted_header_is_made_from_zero(tmp_path: Path, dicom: ModuleType) -> None:
    made, _ = tainted(dicom)
    convert(survey(dicom.write(tmp_path / "in", made)).series[0], tmp_path / "a.nii")
    raw = (tmp_path / "a.nii").read_bytes()
    image = nib.load(tmp_path / "a.nii")
    assert image.header.extensions == [] and raw[348:352] == b"\0\0\0\0"
    for field in ("descrip", "aux_file", "intent_name", "db_name", "data_type"):
        assert bytes(image.header[field].tobytes()).strip(b"\0") == b""
    fresh = nib.Nifti1Image(np.asanyarray(image.dataobj), None)
    fresh.set_sform(image.affine, 1)
    fresh.set_qform(None, 0)
    fresh.header.set_xyzt_units("mm")
    assert raw == fresh.to_bytes()  # nothing but shape, type, affine and voxels
    assert struct.unpack("<i", raw[:4]) == (348,)


def test_a_veiled_sentence_keeps_its_meaning(tmp_path: Path) -> None:
    (tmp_path / "in" / "MUELLER_Anna").mkdir(parents=True)
    (tmp_path / "in" / "MUELLER_Anna" / "a b.nii").touch()
    pseudonymiser = privacy.open_pseudonymiser(
        tmp_path / "key", tmp_path / "out", [tmp_path / "in"]
    )
    text = "MUELLER_Anna/a b.nii could belong to Anna and was left out; Annabel stays"
    assert pseudonymiser.text(text) == (
        "(hidden)/(hidden) could belong to (hidden) and was left out; Annabel stays"
    )
    finding = Finding("error", "unreadable", "Cannot be read: No such file '/x/y'", "Restore it")
    ((path, hidden),) = pseudonymiser.refused([(Path("/x/y"), finding)])
    assert hidden.what == "Cannot be read" and path.name.startswith("file-")
    assert "Anna" not in str(
        pseudonymiser.error(VoltaError("Lost", where=tmp_path / "in/MUELLER_Anna"))
    )
