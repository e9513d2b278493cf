"""Scans of several paths: told apart before any is read, and bad paths among good ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from volta3d.encoder import raw_scans
from volta3d.encoder.raw_scans import find_scans, nothing_found
from volta3d.errors import CohortError
from volta3d.prepare.layouts import discover
from volta3d.prepare.scan import Discovery

Touch = Callable[..., list[Path]]


@pytest.fixture
def touch(tmp_path: Path) -> Touch:
    """Makes files without content: a layout doesn't open them."""

    def make(*names: str) -> list[Path]:
        files = [tmp_path / name for name in names]
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        return files

    return make


def ids(paths: list[Path]) -> list[str]:
    return [scan.scan_id for scan in find_scans(paths)[0]]


def people(paths: list[Path]) -> list[str]:
    return [scan.participant_id for scan in find_scans(paths)[0]]


def test_without_a_clash_ids_are_those_of_the_layout(touch: Touch, tmp_path: Path) -> None:
    touch("a/x.nii.gz", "a/y.nii.gz", "b/x.nii.gz")
    given = [tmp_path / "a", tmp_path / "b"]
    scans, refused = find_scans(given)
    assert scans == [scan for path in given for scan in discover(path).scans] and refused == []


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("pat1/anat/T1w.nii.gz", "pat2/anat/T1w.nii.gz"), ["pat1_anat_T1w", "pat2_anat_T1w"]),
        (("a/1/s/T.nii", "a/2/s/T.nii", "b/1/s/T.nii"), ["a-1_s_T", "a-2_s_T", "b-1_s_T"]),
        (("s/T.nii", "x/s/T.nii", "x/y/s/T.nii"), ["s_T", "x_s_T", "x-y_s_T"]),
        (("s/T.nii", "s/s/T.nii"), ["s_T", "s_s_T"]),
        (("a/Söhne & Co./s/T.nii", "b/c/s/T.nii"), ["a-S-hne-Co_s_T", "b-c_s_T"]),
    ],
)
def test_files_of_like_names_are_told_apart_by_their_folders(
    touch: Touch, names: tuple[str, ...], wanted: list[str]
) -> None:
    files = touch(*names)
    assert ids(files) == wanted
    assert ids(files[::-1]) == wanted[::-1]
    assert len(set(people(files))) == len(files)


def test_one_clash_renames_the_whole_data_set(touch: Touch, tmp_path: Path) -> None:
    touch(*(f"{s}/raw/sub-0{i}_T1w.nii.gz" for s, i in (("one", 1), ("two", 1), ("two", 2))))
    given = [tmp_path / "one" / "raw", tmp_path / "two" / "raw"]
    assert ids(given) == ["one_raw_sub-01_T1w", "two_raw_sub-01_T1w", "two_raw_sub-02_T1w"]
    assert people(given) == ["sub-one-01", "sub-two-01", "sub-two-02"]


def test_sessions_of_one_person_in_two_folders_stay_one_person(touch: Touch) -> None:
    files = touch(*(f"sub-1/ses-{k}/anat/sub-1_ses-{k}_T1w.nii.gz" for k in (1, 2)))
    assert people(files) == ["sub-1", "sub-1"]


def test_names_that_no_id_can_tell_apart_get_a_hash(touch: Touch) -> None:
    for files in (
        touch("p 1/s/T.nii", "p-1/s/T.nii"),
        touch("P/s/T.nii", "p/s/T.nii"),
        touch("one/a b.nii", "one/a-b.nii"),
    ):
        found = ids(files)
        assert len({i.casefold() for i in found}) == 2
        assert ids(files[::-1]) == found[::-1]


def test_a_file_is_taken_once(touch: Touch, tmp_path: Path) -> None:
    files = touch("a/x.nii.gz", "a/y.nii.gz")
    (tmp_path / "link.nii.gz").symlink_to(files[0])
    assert ids([files[0], files[0], tmp_path / "link.nii.gz"]) == ["a_x"]
    assert ids([tmp_path / "a", *files]) == ["a_x", "a_y"]


def test_a_person_called_as_the_folder_is_told_apart_though_no_id_clashes(
    tmp_path: Path, dicom: ModuleType
) -> None:
    dicom.write(tmp_path / "p1" / "DICOM", dicom.slices(uid=1, study=1))
    for uid in (2, 3):
        dicom.write(tmp_path / "p2" / "DICOM", dicom.slices(uid=uid, study=2))
    given = [tmp_path / "p1" / "DICOM", tmp_path / "p2" / "DICOM"]
    assert ids(given) == ["p1_dicom", "p2_dicom_run-1", "p2_dicom_run-2"]
    assert people(given) == ["p1-dicom", "p2-dicom", "p2-dicom"]


def test_a_path_that_is_no_source_is_refused_and_the_others_are_found(
    touch: Touch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, text, closed = touch("a/x.nii.gz", "notes.txt", "closed/y.nii.gz")
    (tmp_path / "empty").mkdir()
    given = [tmp_path / "nowhere", text, good, tmp_path / "empty", closed]

    def guarded(path: Path) -> Discovery:
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return discover(path)

    monkeypatch.setattr(raw_scans, "discover", guarded)
    scans, refused = find_scans(given)
    assert [scan.scan_id for scan in scans] == ["a_x"]
    assert [path for path, _ in refused] == [given[0], text, given[3], closed]
    assert {f.code for _, f in refused} == {"no-source"} and all(f.how_to_fix for _, f in refused)
    words = ("No such file", "No scans found", "No scans found", "Permission denied")
    assert all(word in f.what for word, (_, f) in zip(words, refused, strict=True))
    error = nothing_found(refused)
    assert isinstance(error, CohortError) and error.where == str(given[0])
    assert "None of the 4 paths" in str(error) and "No such file" in str(error)


def test_a_reason_names_the_file_that_it_is_about(touch: Touch, tmp_path: Path) -> None:
    touch("a/x.nii.gz")
    table = tmp_path / "a" / "participants.tsv"
    table.write_bytes(b"\xff\xfe\x00bad")
    scans, refused = find_scans([tmp_path / "a"])
    assert scans == []
    assert [p for p, _ in refused] == [tmp_path / "a"] and table.name in refused[0][1].what
