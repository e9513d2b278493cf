"""What is to be embedded: cohorts and raw scans, judged before any of them is read."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import CONTRACT, Cohort
from volta3d.encoder.source import Source
from volta3d.errors import CohortError, UsageError


@pytest.fixture
def encoder(contract: Contract) -> Any:
    return SimpleNamespace(contract=contract)


def raw(folder: Path, *names: str) -> list[Path]:
    """Files that no layout opens."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / name for name in names]
    for file in files:
        file.touch()
    return files


def test_a_cohort_and_scans_are_counted_before_any_is_read(
    encoder: Any, cohort: Cohort, tmp_path: Path
) -> None:
    files = [*raw(tmp_path / "1" / "s", "T.nii"), *raw(tmp_path / "2" / "s", "T.nii")]
    source = Source.open([cohort.path, *files], encoder)
    assert source.count == len(cohort) + 2 and source.synthetic and source.refused == []
    assert [scan.scan_id for scan in source.scans] == ["1_s_T", "2_s_T"]


def test_ids_of_cohorts_stay_and_clash_at_once(
    encoder: Any, cohort: Cohort, tmp_path: Path
) -> None:
    shutil.copytree(cohort.path, tmp_path / "copy")
    (scan,) = raw(tmp_path / "phantom", "02.nii")
    for given in ([cohort.path, tmp_path / "copy"], [cohort.path, scan]):
        with pytest.raises(UsageError, match=r"same id \(phantom_0"):
            Source.open(given, encoder)


def test_what_is_no_source_is_refused_beside_others(
    encoder: Any, cohort: Cohort, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / CONTRACT).write_text("size: big\n")
    bad = [damaged, tmp_path / "nowhere"]
    for good in ([cohort.path], raw(tmp_path / "s", "T.nii")):
        source = Source.open([*bad, *good], encoder)
        assert [row["source"] for row in source.refused] == [str(path) for path in bad]
        assert {row["code"] for row in source.refused} == {"no-source"}
        assert all(row["what"] and row["how_to_fix"] for row in source.refused)
    with pytest.raises(CohortError, match=r"None of the 2 paths .*damaged"):
        Source.open(bad, encoder)
    with pytest.raises(CohortError, match=r"^No such file or folder \(.*nowhere\)"):
        Source.open(bad[1], encoder)
