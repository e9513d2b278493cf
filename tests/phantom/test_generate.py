"""The folder that `generate` publishes: BIDS, deterministic, never over other people's files."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from volta3d.errors import UsageError, VoltaError
from volta3d.phantom import generate
from volta3d.phantom.effects import VENTRICLE_PER_YEAR

TRUTH = Path("derivatives/truth")


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_exact_tree_of_files(phantom_folder: Path) -> None:
    names = {f"sub-SYN{n:03d}" for n in range(1, 25)}
    expected = {"README", "dataset_description.json", "participants.json", "participants.tsv"}
    expected |= {f"{n}/anat/{n}_T1w{suffix}" for n in names for suffix in (".nii.gz", ".json")}
    expected |= {f"{TRUTH}/dataset_description.json", f"{TRUTH}/dseg.tsv"}
    expected |= {f"{TRUTH}/{n}/anat/{n}_desc-truth_dseg.nii.gz" for n in names}
    assert set(digests(phantom_folder)) == expected


def test_descriptions_hold_what_bids_requires(phantom_folder: Path) -> None:
    for folder, kind in ((phantom_folder, "raw"), (phantom_folder / TRUTH, "derivative")):
        description = json.loads((folder / "dataset_description.json").read_text("utf-8"))
        assert description["Name"]
        assert re.fullmatch(r"1\.\d+\.\d+", description["BIDSVersion"])
        assert description["DatasetType"] == kind
        assert description["GeneratedBy"][0]["Name"] == "volta3d.phantom"
        assert description["Synthetic"] is True


def test_the_templates_terms_travel_with_the_images(phantom_folder: Path) -> None:
    readme = (phantom_folder / "README").read_text("utf-8")
    assert "Permission to use, copy, modify, and distribute" in readme
    for folder in (phantom_folder, phantom_folder / TRUTH):
        terms = json.loads((folder / "dataset_description.json").read_text("utf-8"))["License"]
        assert "any purpose, without fee" in terms
        assert "Copyright (C) 1993-2009 Louis Collins" in terms
        assert "\n" not in terms


def test_participants_are_described_column_by_column(phantom_folder: Path) -> None:
    people = pd.read_csv(phantom_folder / "participants.tsv", sep="\t")
    assert list(people.columns[:5]) == ["participant_id", "age", "sex", "site", "diagnosis"]
    assert list(people.participant_id) == [f"sub-SYN{n:03d}" for n in range(1, 25)]
    assert not people.isna().any(axis=None)
    described = json.loads((phantom_folder / "participants.json").read_text("utf-8"))
    assert list(described) == list(people.columns[1:])
    for column in ("sex", "site", "diagnosis"):
        assert set(people[column]) == set(described[column]["Levels"])
    assert "0.70" in described["diagnosis"]["Description"]
    assert "0.96" in described["sex"]["Description"]
    assert f"{VENTRICLE_PER_YEAR}" in described["age"]["Description"]


def test_called_synthetic_and_no_disease_named(phantom_folder: Path) -> None:
    for path in phantom_folder.rglob("*"):
        if path.suffix in {".json", ".tsv"} or path.name == "README":
            text = path.read_text("utf-8")
            assert not re.search(r"\bAD\b|alzheimer", text, re.IGNORECASE), path
    assert "SYNTHETIC" in (phantom_folder / "README").read_text("utf-8")
    for path in phantom_folder.rglob("*_T1w.json"):
        assert json.loads(path.read_text("utf-8"))["Synthetic"] is True
    for path in phantom_folder.rglob("*.nii.gz"):
        assert b"synthetic" in nib.load(path).header["descrip"].item()


def test_images_are_plain_scans(phantom_folder: Path) -> None:
    for path in phantom_folder.glob("sub-*/anat/*_T1w.nii.gz"):
        image = nib.load(path)
        assert image.get_data_dtype() == np.int16
        assert image.header.get_xyzt_units()[0] == "mm"
        assert int(image.header["sform_code"]) == 1
        assert int(image.header["qform_code"]) == 1
        assert np.allclose(image.get_qform(), image.get_sform(), atol=1e-4)
        assert 100 < np.asarray(image.dataobj).max() < 32767


def test_label_table(phantom_folder: Path) -> None:
    table = pd.read_csv(phantom_folder / TRUTH / "dseg.tsv", sep="\t")
    assert dict(zip(table["index"], table["name"], strict=True)) == {
        47: "Right-Hippocampus",
        48: "Left-Hippocampus",
    }


def test_subjects_do_not_depend_on_their_number_or_on_workers(
    phantom_folder: Path, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    again = generate(
        tmp_path / "few",
        subjects=3,
        seed=3,
        spacing=4.0,
        workers=2,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
    before, after = digests(phantom_folder), digests(again)
    shared = [name for name in after if "sub-SYN" in name]
    assert len(shared) == 9
    assert all(before[name] == after[name] for name in shared)
    lines = [(f / "participants.tsv").read_text("utf-8") for f in (phantom_folder, again)]
    assert lines[0].startswith(lines[1])
    other = generate(tmp_path / "other", subjects=1, seed=4, spacing=4.0)
    assert digests(other)[shared[0]] != after[shared[0]]


def test_an_earlier_phantom_is_replaced_and_other_files_are_not(tmp_path: Path) -> None:
    out = tmp_path / "bids"
    generate(out, subjects=2, spacing=8)
    generate(out, subjects=1, spacing=8)
    assert [p.name for p in out.glob("sub-*")] == ["sub-SYN001"]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "dataset_description.json").write_text('{"Name": "real", "DatasetType": "raw"}')
    with pytest.raises(VoltaError, match="other files"):
        generate(mine, subjects=1, spacing=8)
    assert (mine / "dataset_description.json").is_file()
    file = tmp_path / "file"
    file.write_text("text")
    with pytest.raises(VoltaError, match="file stands"):
        generate(file, subjects=1, spacing=8)


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        generate(tmp_path / "bids", subjects=2, spacing=8, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong", [{"subjects": 0}, {"workers": 0}, {"spacing": 0.1}, {"spacing": float("nan")}]
)
def test_numbers_out_of_range_are_usage_errors(tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        generate(tmp_path / "bids", **wrong)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
