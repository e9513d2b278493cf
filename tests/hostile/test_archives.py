"""Archives, folders and names made to harm: nothing is written or read outside, nothing runs."""

from __future__ import annotations

import re
import stat
import struct
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pydicom
import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from volta3d.cohort.store import Cohort
from volta3d.config import PrepareConfig
from volta3d.errors import CohortError
from volta3d.prepare import prepare
from volta3d.prepare.dicom import archive, convert_folder, survey
from volta3d.prepare.findings import Refused
from volta3d.prepare.layouts import discover

SMALL = PrepareConfig(size=16, spacing=6)


def tree(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


def entry(name: str, kind: int = stat.S_IFREG) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo("placeholder")
    made.filename = made.orig_filename = name
    made.create_system = 3
    made.external_attr = (kind | 0o644) << 16
    return made


def pack(path: Path, root: Path, extra: list[tuple[zipfile.ZipInfo, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(root.iterdir()):
            packed.write(file, f"study/{file.name}")
        for info, content in extra:
            packed.writestr(info, content)
    return path


def test_S6_entries_that_leave_the_archive_write_nothing(tmp_path: Path, dicom: ModuleType) -> None:
    root = dicom.write(tmp_path / "in", dicom.slices())
    evil = (root / "3.dcm").read_bytes()
    hostile = [
        entry("../evil.dcm"),
        entry("study/../../evil.dcm"),
        entry("/tmp/volta3d-evil.dcm"),
        entry("C:\\evil.dcm"),
        entry("..\\evil.dcm"),
        entry("study/link.dcm", stat.S_IFLNK),
        entry("study/device.dcm", stat.S_IFCHR),
        entry("study/fifo.dcm", stat.S_IFIFO),
    ]
    extra = [(e, b"../../evil" if "link" in e.filename else evil) for e in hostile]
    work = tmp_path / "deep" / "er"
    work.mkdir(parents=True)
    packed = pack(work / "study.zip", root, extra)
    before = tree(tmp_path)
    result = prepare([packed], work / "cohort", config=SMALL)
    assert (result.prepared, result.quarantined) == (1, len(hostile))
    made = tree(tmp_path) - before
    assert all(name.startswith("deep/er/cohort") for name in made)
    assert not Path("/tmp/volta3d-evil.dcm").exists()
    quarantine = Cohort.open(work / "cohort").quarantine
    assert set(quarantine["code"]) == {"unsafe-entry"}


def test_S6_an_encrypted_entry_is_refused(tmp_path: Path, dicom: ModuleType) -> None:
    root = dicom.write(tmp_path / "in", dicom.slices())
    packed = pack(tmp_path / "a.zip", root, [])
    raw = bytearray(packed.read_bytes())
    at = raw.rindex(b"PK\x01\x02")
    raw[at + 8] |= 1  # the last entry of the directory claims a password
    packed.write_bytes(bytes(raw))
    found = survey(packed)
    assert "unsafe-entry" in {f.code for _, f in found.refused}


def test_F5_scans_and_archives_need_no_temporary_folder(
    tmp_path: Path, dicom: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is unpacked lies beside the cohort, on the device that has room for it."""
    root = dicom.write(tmp_path / "in", dicom.slices())
    packed = pack(tmp_path / "a.zip", root, [])
    monkeypatch.setattr(tempfile, "tempdir", str(packed))  # a file: nothing can be made in it
    for number, source in enumerate((root, packed)):
        assert prepare([source], tmp_path / f"c{number}", config=SMALL).prepared == 1
    folder, archived = (Cohort.open(tmp_path / f"c{n}").volume(0) for n in (0, 1))
    np.testing.assert_array_equal(folder, archived)


def never_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("an entry was opened")

    monkeypatch.setattr(zipfile.ZipFile, "open", fail)


def test_S7_a_zip_bomb_is_refused_by_its_ratio_before_an_entry_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.dcm", bytes(archive.SMALL + 1))
    never_opened(monkeypatch)
    with pytest.raises(CohortError, match="archive-bomb"):
        prepare([tmp_path / "a.zip"], tmp_path / "c", config=SMALL)


@pytest.mark.parametrize("how", ["total", "entry", "many"])
def test_S7_a_zip_bomb_is_refused_by_what_its_directory_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for number in range(40):
            packed.writestr(f"{number}.dcm", b"x" * 64)
    raw = bytearray(path.read_bytes())
    claimed = {"total": 2**31, "entry": 2**32 - 2}.get(how, 64)
    for found in re.finditer(b"PK\x01\x02", bytes(raw)):
        raw[found.start() + 24 : found.start() + 28] = struct.pack("<I", claimed)
        if how == "entry":
            break
    path.write_bytes(bytes(raw))
    if how == "many":
        monkeypatch.setattr(archive, "MAX_ENTRIES", 39)
    never_opened(monkeypatch)
    assert [f.code for _, f in survey(path).refused] == ["archive-bomb"]


def test_S7_overlapping_entries_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One packed file that the directory lists a hundred times, as in a flat bomb."""
    path = tmp_path / "a.zip"
    noise = np.random.default_rng(0).bytes(50_000)
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a.dcm", noise)
    raw = path.read_bytes()
    start, end = raw.index(b"PK\x01\x02"), raw.index(b"PK\x05\x06")
    record = raw[start:end]
    tail = bytearray(raw[end:])
    tail[8:12] = struct.pack("<HH", 100, 100)
    tail[12:16] = struct.pack("<I", 100 * len(record))
    path.write_bytes(raw[:start] + record * 100 + bytes(tail))
    never_opened(monkeypatch)
    assert [f.code for _, f in survey(path).refused] == ["archive-bomb"]


def test_S7_an_entry_that_unpacks_to_more_than_it_claims_is_cut_off(
    tmp_path: Path, dicom: ModuleType
) -> None:
    root = dicom.write(tmp_path / "in", dicom.slices())
    path = pack(tmp_path / "a.zip", root, [])
    raw = bytearray(path.read_bytes())
    size = (root / "0.dcm").stat().st_size
    for found in re.finditer(b"PK\x01\x02", bytes(raw)):
        raw[found.start() + 24 : found.start() + 28] = struct.pack("<I", size // 2)
    path.write_bytes(bytes(raw))
    candidates, refused = convert_folder(path, tmp_path / "work")
    assert candidates == [] and refused


@pytest.mark.parametrize("content", [b"PK\x05\x06", b"PK\x03\x04 not a zip", b""])
def test_a_broken_archive_is_a_typed_refusal(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(Refused):
        archive.open_archive(path)
    with pytest.raises(CohortError):
        discover(path)


def test_S8_a_dicomdir_leads_nowhere(tmp_path: Path, dicom: ModuleType) -> None:
    dicom.write(tmp_path / "secret", dicom.slices(uid=9), [f"IM{k}" for k in range(20)])
    root = dicom.write(tmp_path / "in", dicom.slices())
    records = []
    for number in range(20):
        record = Dataset()
        record.DirectoryRecordType = "IMAGE"
        with pydicom.config.disable_value_validation():
            record.ReferencedFileID = ["..", "secret", f"IM{number}"]
        records.append(record)
    directory = Dataset()
    directory.file_meta = dicom.slices()[0].file_meta
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.SOPClassUID, directory.SOPInstanceUID = "1.2.840.10008.1.3.10", "1.2.3"
    directory.DirectoryRecordSequence = Sequence(records)
    with pydicom.config.disable_value_validation():
        pydicom.dcmwrite(root / "DICOMDIR", directory, enforce_file_format=True)
    found = survey(root)
    assert found.objects == 1 and len(found.series) == 1
    assert all(f.container.is_relative_to(root) for s in found.series for f in s.files)
    assert len(found.series[0].files) == 20


def test_S9_ids_of_a_header_are_no_paths(tmp_path: Path, dicom: ModuleType) -> None:
    evil = "../../../evil"
    tags = {
        name: evil
        for name in ("PatientID", "PatientName", "StudyID", "AccessionNumber", "StationName")
    }
    with pydicom.config.disable_value_validation():
        made = dicom.slices(
            SeriesInstanceUID=evil,
            StudyInstanceUID="/tmp/volta3d-evil",
            SOPInstanceUID=evil,
            **tags,
        )
        root = dicom.write(tmp_path / "deep" / "in", made)
    before = tree(tmp_path)
    assert prepare([root], tmp_path / "deep" / "c", config=SMALL).prepared == 1
    assert all(name.startswith("deep/c") for name in tree(tmp_path) - before)
    assert not Path("/tmp/volta3d-evil").exists()
    table = (tmp_path / "deep" / "c" / "participants.tsv").read_text()
    assert "evil" not in table


def test_S10_formulas_in_folder_names_are_neutralised(tmp_path: Path, dicom: ModuleType) -> None:
    for number, name in enumerate(("=HYPERLINK(1)", "+1", "@SUM(A1)", "-2")):
        made = dicom.slices(uid=number, study=number, PatientID=name)
        dicom.write(tmp_path / "in" / name, made)
    dicom.write(tmp_path / "in" / "=bad", dicom.slices(uid=77, study=77)[:3])
    assert prepare([tmp_path / "in"], tmp_path / "c", config=SMALL).prepared == 4
    for table in ("participants.tsv", "quarantine.tsv", "qc/findings.tsv"):
        for line in (tmp_path / "c" / table).read_text().splitlines():
            assert not any(re.match(r"[=+@]|-\D", cell) for cell in line.split("\t"))


NAMES = ["; touch pwned", "$(touch pwned)", "`touch pwned`", "| touch pwned", "-o", "--help", "%n"]


def test_S14_names_never_reach_the_converter_s_command_line(
    tmp_path: Path, dicom: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = dicom.slices(PatientName="$(touch pwned)", SeriesDescription="t1 `touch pwned`")
    folder = tmp_path / "in $(touch pwned)" / "; touch pwned"
    names = [NAMES[k] if k < len(NAMES) else f"{k} & touch pwned" for k in range(len(made))]
    dicom.write(folder, made, names)
    calls: list[list[str]] = []
    real = subprocess.Popen

    class Spy(real):  # type: ignore[type-arg,misc,valid-type]
        def __init__(self, arguments: Any, **options: Any) -> None:
            assert not options.get("shell") and isinstance(arguments, list)
            calls.append([str(a) for a in arguments])
            super().__init__(arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", Spy)
    monkeypatch.chdir(tmp_path)
    candidates, refused = convert_folder(folder.parent, tmp_path / "work")
    assert len(candidates) == 1 and refused == ()
    dicom.assert_faithful(candidates[0].nifti, made, dicom.head())
    assert len(calls) == 1 and "touch" not in " ".join(calls[0][1:])
    assert not list(tmp_path.rglob("pwned"))


def test_S15_links_that_leave_the_source_are_not_followed(
    tmp_path: Path, dicom: ModuleType
) -> None:
    outside = dicom.write(tmp_path / "outside", dicom.slices(uid=9))
    root = dicom.write(tmp_path / "in", dicom.slices()[:15])
    for number in range(15, 20):
        (root / f"{number}.dcm").symlink_to(outside / f"{number}.dcm")
    (root / "folder").symlink_to(outside)
    (root / "loop").symlink_to(root)
    (root / "inside.dcm").symlink_to(root / "3.dcm")
    (root / "dangling").symlink_to(root / "nothing")
    found = survey(root)
    assert len(found.series) == 1
    assert sorted({f.container.name for f in found.series[0].files}) == sorted(
        [f"{k}.dcm" for k in range(15)] + ["inside.dcm"]
    )
    links = [path for path, f in found.refused if f.code == "link-outside"]
    assert len(links) == len(found.refused) == 6


def test_a_pipe_is_not_waited_for(tmp_path: Path, dicom: ModuleType) -> None:
    import os

    root = dicom.write(tmp_path / "in", dicom.slices())
    os.mkfifo(root / "pipe")
    found = survey(root)
    assert len(found.series) == 1 and found.strays == 1


def test_S17_floors_of_dependencies_hold_known_fixes() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dicom"]
    floors = {}
    for line in wanted:
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        floors[requirement.name] = Version(specifier.version)
    assert floors["torch"] >= Version("2.10")
    assert floors["monai"] >= Version("1.6")
    assert floors["pydicom"] >= Version("3.0.2")


def test_the_interpreter_runs_the_converter_without_our_environment(
    tmp_path: Path, dicom: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from volta3d.prepare.dicom.converter import run_converter

    monkeypatch.setenv("VOLTA3D_SECRET", "CANARY")
    script = tmp_path / "fake.py"
    script.write_text(
        "import os, sys, pathlib\n"
        "out = pathlib.Path(sys.argv[sys.argv.index('-o') + 1])\n"
        "(out / 'volume.nii').write_text(repr(dict(os.environ)))\n"
    )
    (tmp_path / "out").mkdir()
    (made,) = run_converter(tmp_path, tmp_path / "out", command=[sys.executable, str(script)])
    assert "CANARY" not in made.read_text()
