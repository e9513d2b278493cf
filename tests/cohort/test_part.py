"""Parts of a cohort: disjoint, complete, and the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from volta3d.cohort.contract import Contract
from volta3d.cohort.part import draw_subjects, part_of
from volta3d.cohort.store import Cohort, write_cohort
from volta3d.errors import CohortError

SIZE = 8


@pytest.fixture
def whole(tmp_path: Path) -> Cohort:
    """Five people, the third with two scans, the last without a label map."""
    generator = np.random.default_rng(0)
    people = ["a", "b", "c", "c", "d", "e"]
    table = pd.DataFrame({"scan_id": [f"s{i}" for i in range(6)], "participant_id": people})
    volumes = [generator.random((SIZE,) * 3, dtype=np.float32) for _ in people]
    labels = [np.full((SIZE,) * 3, i + 1, np.uint16) for i in range(5)] + [None]
    affines = np.stack([np.diag([1.0, 1, 1, 1]) * (i + 1) for i in range(6)])
    contract = Contract(size=SIZE)
    return write_cohort(tmp_path / "whole", contract, volumes, table, affines, labels)


def test_L2_parts_share_nobody_and_together_hold_everybody(whole: Cohort) -> None:
    first, second = (draw_subjects(whole, s, seed=3) for s in ((0.0, 0.4), (0.4, 1.0)))
    assert not set(first) & set(second)
    assert sorted(first + second) == list("abcde")
    assert draw_subjects(whole, (0.0, 0.4), seed=3) == first
    assert {tuple(draw_subjects(whole, (0.0, 0.4), seed=s)) for s in range(20)} != {tuple(first)}


def test_a_part_holds_all_scans_of_its_people_unchanged(whole: Cohort, tmp_path: Path) -> None:
    part = part_of(whole, tmp_path / "part", ["c", "e"])
    assert part.scan_ids == ["s2", "s3", "s5"]
    for new, old in enumerate((2, 3, 5)):
        assert np.array_equal(part.volume(new), whole.volume(old))
        assert np.array_equal(part.affine(new), whole.affine(old))
        ours, theirs = part.label(new), whole.label(old)
        assert (ours is None) == (theirs is None)
        assert ours is None or np.array_equal(ours, theirs)  # type: ignore[arg-type]
    assert part.contract == whole.contract
    assert part.hash() != whole.hash()


def test_a_part_without_label_maps_has_none(whole: Cohort, tmp_path: Path) -> None:
    assert not part_of(whole, tmp_path / "part", ["e"]).has_labels


@pytest.mark.parametrize("people", [["a", "z"], []])
def test_strangers_are_refused(whole: Cohort, tmp_path: Path, people: list[str]) -> None:
    with pytest.raises(CohortError):
        part_of(whole, tmp_path / "part", people)
    assert not (tmp_path / "part").exists()


@pytest.mark.parametrize("share", [(0.5, 0.5), (0.0, 0.05), (0.6, 0.4), (0.5, 1.5)])
def test_an_empty_stretch_is_refused(whole: Cohort, share: tuple[float, float]) -> None:
    with pytest.raises(CohortError, match="empty"):
        draw_subjects(whole, share, seed=0)
