"""What may not be read, isn't there, or isn't a format that is read: counted, with its reason."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort
from volta3d.config import PrepareConfig
from volta3d.errors import CohortError
from volta3d.prepare import prepare
from volta3d.prepare.findings import Refused
from volta3d.prepare.layouts import discover
from volta3d.prepare.left_out import MOST
from volta3d.prepare.volume import prepare_scan

Make = Callable[..., Path]
SMALL = PrepareConfig(size=16, spacing=6)
FORK = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(120)  # AppleDouble's start


def reasons(root: Path, layout: str | None = None) -> list[tuple[str, str]]:
    return sorted((p.name, f.code) for p, f in discover(root, layout).refused)


@pytest.mark.parametrize("kind", ["bids", "folder", "nnunet", "ixi", "brats", "caps", "adni"])
def test_C2_hidden_files_are_no_scans_in_any_layout(
    kind: str, request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue({"bids": "bids_tree"}.get(kind, kind))
    before = discover(root)
    for scan in before.scans:
        scan.source.with_name("._" + scan.source.name).write_bytes(FORK)
        if isinstance(scan.label, Path):
            scan.label.with_name("._" + scan.label.name).write_bytes(FORK)
    (root / "__MACOSX" / "sub-9" / "anat").mkdir(parents=True)
    (root / "__MACOSX" / "sub-9" / "anat" / "sub-9_T1w.nii.gz").write_bytes(FORK)
    assert discover(root) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
@pytest.mark.parametrize("locked", ["sub-B2/anat", "sub-B2"])
def test_C6_a_folder_that_may_not_be_read_is_quarantined_alone(
    bids_tree: Path, locked: str
) -> None:
    folder = bids_tree / locked
    folder.chmod(0)
    try:
        found = discover(bids_tree)
    finally:
        folder.chmod(0o755)
    assert {s.participant_id for s in found.scans} == {"sub-A1"}
    assert [(p, f.code) for p, f in found.refused] == [(folder, "unreadable")]


@pytest.mark.parametrize("locked", ["sub-B2/anat", "sub-B2"])
def test_C6_what_the_system_refuses_to_list_is_quarantined_alone(
    bids_tree: Path, locked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_list, real_scan = os.listdir, os.scandir
    folder = str(bids_tree / locked)

    def guarded(real: Callable[..., object]) -> Callable[..., object]:
        def call(path: object = ".") -> object:
            if str(path).startswith(folder):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        return call

    monkeypatch.setattr(os, "listdir", guarded(real_list))
    monkeypatch.setattr(os, "scandir", guarded(real_scan))
    found = discover(bids_tree)
    assert {s.participant_id for s in found.scans} == {"sub-A1"}
    assert [(str(p), f.code) for p, f in found.refused] == [(folder, "unreadable")]
    assert "Permission denied" in found.refused[0][1].what


def test_C13_labels_behind_a_link_that_leads_out_are_told(bids_tree: Path, tmp_path: Path) -> None:
    (bids_tree / "derivatives").rename(tmp_path / "elsewhere")
    (bids_tree / "derivatives").symlink_to(tmp_path / "elsewhere")
    found = discover(bids_tree)
    assert all(s.label is None for s in found.scans)
    assert all("labels-behind-link" in {f.code for f in s.findings} for s in found.scans)
    assert reasons(bids_tree) == [("derivatives", "link-outside")]


def test_C13_one_label_map_that_was_not_fetched_concerns_one_person(bids_tree: Path) -> None:
    (label,) = (bids_tree / "derivatives").rglob("*_dseg.nii.gz")
    label.unlink()
    label.symlink_to("../../../../../.git/annex/objects/x/MD5E-s99--0.nii.gz")
    found = discover(bids_tree)
    marked = {s.participant_id for s in found.scans if "labels-behind-link" in str(s.findings)}
    assert marked == {"sub-A1"}
    assert reasons(bids_tree) == [(label.name, "not-fetched")]


def test_C13_a_table_that_was_not_fetched_is_not_an_empty_table(bids_tree: Path) -> None:
    table = bids_tree / "participants.tsv"
    for spoil in ("link", "lfs"):
        table.unlink()
        if spoil == "link":
            table.symlink_to(".git/annex/objects/q/MD5E-s99--0.tsv")
        else:
            table.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
        codes = {f.code for s in discover(bids_tree).scans for f in s.findings}
        assert "table-not-fetched" in codes and "no-participant-row" not in codes


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("/annex/objects/MD5E-s10561--0123456789abcdef.nii.gz\n", "datalad get"),
        ("../.git/annex/objects/Xx/0G/MD5E-s1--0/MD5E-s1--0.nii.gz", "git annex get"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n", "git lfs pull"),
        ("<!DOCTYPE html>\n<html><title>Log in</title>", "Download the file again"),
    ],
)
def test_C13_a_pointer_says_how_to_fetch_its_content(tmp_path: Path, text: str, fix: str) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_text(text)
    with pytest.raises(Refused, match=r"pointer|web page") as caught:
        prepare_scan(path, Contract(size=16))
    assert fix in caught.value.finding.how_to_fix


def test_C13_a_scan_that_is_a_link_to_nothing_says_so(folder: Path) -> None:
    (folder / "d.nii.gz").symlink_to("nowhere.nii.gz")
    (folder / "e.nii.gz").symlink_to(".git/annex/objects/MD5E-s1--0.nii.gz")
    assert reasons(folder) == [("d.nii.gz", "broken-link"), ("e.nii.gz", "not-fetched")]


def test_C14_mgh_and_pairs_are_read_and_give_what_nifti_gives(
    tmp_path: Path, nifti: Make, head: tuple[np.ndarray, np.ndarray]
) -> None:
    data, affine = head
    wanted = prepare_scan(nifti(tmp_path / "a.nii", data, affine), Contract(size=16))
    nib.save(nib.MGHImage(data.astype(np.float32), affine), tmp_path / "b.mgz")
    nib.save(nib.MGHImage(data.astype(np.int16), affine), tmp_path / "c.mgh")
    nib.save(nib.Nifti1Pair(data, affine), tmp_path / "d.img")
    for name in ("b.mgz", "c.mgh", "d.img"):
        found = prepare_scan(tmp_path / name, Contract(size=16))
        np.testing.assert_allclose(found.volume, wanted.volume, atol=1e-6)
        np.testing.assert_allclose(found.affine, wanted.affine, atol=1e-4)
    result = prepare([tmp_path], tmp_path / "cohort", layout="folder", config=SMALL)
    assert result.prepared == 4 and result.quarantined == 0
    assert result.formats == {".mgz": 1, ".mgh": 1, ".img": 1}


def test_C14_analyze_says_nothing_of_left_and_right_and_is_refused(
    tmp_path: Path, head: tuple[np.ndarray, np.ndarray]
) -> None:
    nib.save(nib.AnalyzeImage(head[0], head[1]), tmp_path / "a.img")
    with pytest.raises(Refused, match="no-orientation"):
        prepare_scan(tmp_path / "a.img", Contract(size=16))
    (tmp_path / "a.hdr").unlink()
    with pytest.raises(Refused, match="Half of a pair"):
        prepare_scan(tmp_path / "a.img", Contract(size=16))


@pytest.mark.parametrize("spoil", ["short", "huge", "version", "type", "orientation"])
def test_C14_a_broken_mgh_file_is_refused_before_its_voxels_are_read(
    tmp_path: Path, head: tuple[np.ndarray, np.ndarray], spoil: str
) -> None:
    nib.save(nib.MGHImage(head[0].astype(np.int16), head[1]), tmp_path / "a.mgh")
    raw = bytearray((tmp_path / "a.mgh").read_bytes())
    places = {"version": 0, "huge": 4, "type": 20, "orientation": 28}
    values = {"version": 9, "huge": 32767, "type": 7}
    if spoil == "short":
        raw = raw[:400]
    elif spoil == "orientation":
        raw[28:30] = bytes(2)
    else:
        raw[places[spoil] : places[spoil] + 4] = values[spoil].to_bytes(4, "big")
    (tmp_path / "a.mgh").write_bytes(raw)
    code = {"short": "truncated", "huge": "too-large|truncated", "version": "bad-magic",
            "type": "bad-type", "orientation": "no-orientation"}[spoil]  # fmt: skip
    with pytest.raises(Refused, match=code):
        prepare_scan(tmp_path / "a.mgh", Contract(size=16))


def test_C14_minc_that_is_none_is_refused(tmp_path: Path) -> None:
    for content, code in ((b"CDF\x01rubbish", "bad-magic"), (b"plain text", "bad-magic")):
        (tmp_path / "a.mnc").write_bytes(content)
        with pytest.raises(Refused, match=code):
            prepare_scan(tmp_path / "a.mnc", Contract(size=16))


def test_C14_formats_that_are_not_read_are_counted_by_kind(folder: Path) -> None:
    for name in ("x.nrrd", "y.mha", "z.nii.bz2", "old.zip", "notes.txt"):
        (folder / name).write_bytes(b"1")
    assert reasons(folder) == [
        (name, "other-format") for name in ("old.zip", "x.nrrd", "y.mha", "z.nii.bz2")
    ]


def test_C14_thousands_of_one_format_take_few_rows(folder: Path) -> None:
    for number in range(MOST + 7):
        (folder / f"{number}.nrrd").write_bytes(b"1")
    refused = discover(folder).refused
    assert len(refused) == MOST + 1
    assert refused[-1][0] == folder and refused[-1][1].what.startswith("And 7 more: ")


def test_C14_a_folder_of_zips_says_to_give_each(tmp_path: Path, dicom: ModuleType) -> None:
    series = dicom.write(tmp_path / "raw", dicom.slices())
    zips = tmp_path / "zips"
    zips.mkdir()
    for name in ("ada", "bob"):
        with zipfile.ZipFile(zips / f"{name}.zip", "w") as archive:
            for file in series.iterdir():
                archive.write(file, file.name)
    with pytest.raises(CohortError, match=r"2 \.zip") as caught:
        discover(zips)
    assert "each .zip as a source" in caught.value.fix
    dicom.write(zips / "eve", dicom.slices(uid=2))
    found = discover(zips)
    assert len(found.scans) == 1
    assert [(p.name, f.code) for p, f in found.refused] == [
        ("ada.zip", "other-format"),
        ("bob.zip", "other-format"),
    ]


def test_what_is_left_out_is_counted_by_reason(folder: Path, tmp_path: Path) -> None:
    (folder / "x.nrrd").write_bytes(b"1")
    (folder / "d.nii.gz").write_text("version https://git-lfs.github.com/spec/v1\n")
    result = prepare([folder], tmp_path / "c", config=SMALL)
    assert result.reasons == {"other-format": 1, "not-fetched": 1} and result.quarantined == 2
    assert list(Cohort.open(tmp_path / "c").quarantine["code"]) == ["other-format", "not-fetched"]
    assert result.warned == 2 and result.warnings["small-field-of-view"] == 2
