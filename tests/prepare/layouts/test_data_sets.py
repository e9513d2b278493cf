"""A folder that isn't quite what it seems: above or below a data set, several of them, a part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from volta3d.errors import CohortError
from volta3d.prepare.layouts import discover

Make = Callable[..., Path]


@pytest.fixture
def rich(bids_tree: Path, scan: Make) -> Path:
    """A BIDS data set with images that are no T1w scans."""
    for name in ("func/sub-B2_task-rest_bold", "dwi/sub-B2_dwi", "anat/sub-B2_T2w"):
        scan(bids_tree / "sub-B2" / f"{name}.nii.gz")
    return bids_tree


def sources(root: Path) -> list[str]:
    return sorted(s.source.name for s in discover(root).scans)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_folder_above_a_data_set_stands_for_it(rich: Path, tmp_path: Path, levels: int) -> None:
    whole = discover(rich)
    above = tmp_path / "top"
    inner = above.joinpath(*"abc"[: levels - 1])
    inner.mkdir(parents=True)
    rich.rename(inner / rich.name)
    found = discover(above)
    assert [s.scan_id for s in found.scans] == [s.scan_id for s in whole.scans]
    assert [s.sex for s in found.scans] == [s.sex for s in whole.scans]
    assert sum(s.label is not None for s in found.scans) == 1


@pytest.mark.parametrize(
    ("part", "kept"),
    [
        ("sub-B2", ["sub-B2_desc-brain_T1w.nii.gz"]),
        ("sub-B2/anat", ["sub-B2_desc-brain_T1w.nii.gz"]),
        ("sub-A1/ses-2", ["sub-A1_ses-2_T1w.nii.gz"]),
        ("sub-A1/ses-2/anat", ["sub-A1_ses-2_T1w.nii.gz"]),
    ],
)
def test_a_part_of_a_data_set_keeps_what_its_tables_and_labels_say(
    rich: Path, part: str, kept: list[str]
) -> None:
    assert sources(rich / part) == kept
    whole = {s.source: s for s in discover(rich).scans}
    for scan in discover(rich / part).scans:
        assert scan == whole[scan.source]


def test_several_data_sets_in_one_folder_are_all_used_and_told_apart(
    tmp_path: Path, scan: Make, msd: Path, ixi: Path
) -> None:
    root = tmp_path / "all"
    for name in ("one", "two"):
        scan(root / name / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
        (root / name / "dataset_description.json").write_text('{"Name": "Study"}')
    for other in (msd, ixi):
        other.rename(root / other.name)
    scan(root / "stray.nii.gz")
    found = discover(root)
    data_sets = {s.dataset for s in found.scans}
    assert data_sets == {"study", "study-2", "msd-hippocampus", "ixi"}
    assert len({s.scan_id for s in found.scans}) == len(found.scans)
    assert [(p.name, f.code) for p, f in found.refused if f.code == "outside-data-set"] == [
        ("stray.nii.gz", "outside-data-set")
    ]


def test_raw_data_beside_their_derivatives(rich: Path, tmp_path: Path) -> None:
    study = tmp_path / "project"
    study.mkdir()
    rich.rename(study / "rawdata")
    (study / "rawdata" / "derivatives").rename(study / "derivatives")
    for given in (study, study / "rawdata"):
        found = discover(given)
        assert len(found.scans) == 4
        assert [s.label is not None for s in found.scans].count(True) == 1


def test_derivatives_alone_are_used_or_named(tmp_path: Path, scan: Make) -> None:
    root = tmp_path / "derivatives"
    scan(root / "fmriprep" / "sub-01" / "anat" / "sub-01_desc-preproc_T1w.nii.gz")
    for given in (root, tmp_path):
        assert sources(given) == ["sub-01_desc-preproc_T1w.nii.gz"]
    scan(root / "smriprep" / "sub-01" / "anat" / "sub-01_desc-preproc_T1w.nii.gz")
    with pytest.raises(CohortError, match="fmriprep, smriprep"):
        discover(root)


def test_a_layout_that_is_given_is_looked_for_below(rich: Path) -> None:
    assert len(discover(rich.parent, "bids").scans) == len(discover(rich).scans)
    with pytest.raises(CohortError, match="No T1w scan found"):
        discover(rich, "brats")


def test_many_folders_of_scans_are_people_and_not_data_sets(tmp_path: Path, scan: Make) -> None:
    for n in range(3):
        scan(tmp_path / f"p{n}" / "t1.nii.gz")
    assert len(discover(tmp_path).scans) == 3
    assert {s.dataset for s in discover(tmp_path).scans} == {tmp_path.name.replace("_", "-")}
