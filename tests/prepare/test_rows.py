"""Cells of the participants table."""

from __future__ import annotations

from pathlib import Path

import pytest

from volta3d.prepare.rows import label_cell, label_of_cell
from volta3d.prepare.scan import Label, MergedLabel

COHORT = Path("/archive/cohort")


@pytest.mark.parametrize(
    "label",
    [
        None,
        Path("/a b/sub-1_dseg.nii.gz"),
        Path("/odd;name/x=1_dseg.nii"),
        MergedLabel(((1, Path("/harp/x_L.nii")), (2, Path("/harp/x_R.nii")))),
        MergedLabel(((12, Path("/odd;name/3=x.nii")), (700, Path("/archive/y.nii.gz")))),
    ],
    ids=str,
)
def test_a_label_map_s_cell_says_where_it_and_its_parts_lie(label: Label | None) -> None:
    assert label_of_cell(label_cell(label, COHORT), COHORT) == label


def test_a_label_map_in_one_file_is_its_path() -> None:
    assert label_cell(Path("/a/b_dseg.nii.gz"), COHORT) == "/a/b_dseg.nii.gz"
    assert label_cell(None, COHORT) == ""
