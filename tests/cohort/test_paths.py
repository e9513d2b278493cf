"""Files that a cohort names are found from any folder, and moved ones with the cohort."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from volta3d.cohort.paths import label_parts, located, moved_paths, written_path


def test_a_file_beside_the_cohort_is_relative_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written = written_path(Path("bids/sub-1.nii"), Path("cohort"))
    assert written == Path("../bids/sub-1.nii")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert located(written, Path("../cohort")) == tmp_path / "bids/sub-1.nii"


def test_a_file_elsewhere_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert written_path(Path("bids/a.nii"), Path("/out/deep/cohort")) == tmp_path / "bids/a.nii"
    assert located(tmp_path / "bids/a.nii", Path("/out")) == tmp_path / "bids/a.nii"


def test_a_cohort_reached_by_a_link_names_the_same_files(tmp_path: Path) -> None:
    (tmp_path / "real" / "cohort").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "cohort")
    written = written_path(tmp_path / "real/bids/a.nii", tmp_path / "real/cohort")
    assert located(written, tmp_path / "link") == tmp_path / "real/bids/a.nii"


def test_parts_of_a_label_map() -> None:
    assert label_parts("1=../a.nii;2=/b.nii") == [(1, Path("../a.nii")), (2, Path("/b.nii"))]
    assert label_parts("/odd;name/x=1_dseg.nii") == []
    assert label_parts("") == []


def test_a_part_of_a_cohort_in_another_folder_names_the_same_files() -> None:
    table = pd.DataFrame(
        {
            "source": ["../bids/a.nii", "/far/b.nii", "", "old.nii"],
            "label_file": [
                "1=../l/a.nii;2=../l/b.nii",
                "/far/b_dseg.nii",
                "s_dseg",
                "old_dseg.nii",
            ],
            "label_sha256": ["x;y", "z", "", ""],
        }
    )
    moved = moved_paths(table, Path("/archive/cohort"), Path("/out/part"))
    assert moved["source"].tolist() == ["/archive/bids/a.nii", "/far/b.nii", "", "old.nii"]
    assert moved["label_file"].tolist() == [
        "1=/archive/l/a.nii;2=/archive/l/b.nii", "/far/b_dseg.nii", "s_dseg", "old_dseg.nii",
    ]  # fmt: skip
