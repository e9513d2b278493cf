"""One scan a person, the first visit with one of the classes."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from volta3d.downstream.classification.first_visits import first_visits

PEOPLE = pd.DataFrame(
    [
        # CN, then MCI, then AD: with classes CN and AD the scan at bl is theirs
        ("a", "m36", 73.0, "s1"),
        ("a", "bl", 70.0, "s2"),
        ("a", "m18", 71.5, "s3"),
        # days, the later one first
        ("b", "2011-05-12", math.nan, "s4"),
        ("b", "2006-04-18", math.nan, "s5"),
        # only ages tell
        ("c", "", 66.0, "s6"),
        ("c", "", 64.0, "s7"),
        # nothing tells but the name
        ("d", "bl", 60.0, "s9"),
        ("d", "bl", 60.0, "s8"),
        # two months against ten: a number, not a text
        ("e", "m10", 60.0, "s10"),
        ("e", "m2", 60.0, "s11"),
    ],
    columns=["participant_id", "session", "age", "scan_id"],
)


def kept(rows: list[int]) -> list[str]:
    out = first_visits(rows, PEOPLE)
    return [PEOPLE["scan_id"][row] for row in rows if row not in out]


def test_first_visit_of_each_person() -> None:
    assert kept(list(range(len(PEOPLE)))) == ["s2", "s5", "s7", "s8", "s11"]


@pytest.mark.parametrize(("rows", "wanted"), [([0, 2], ["s3"]), ([0], ["s1"]), ([], [])])
def test_only_scans_with_a_class_are_visits(rows: list[int], wanted: list[str]) -> None:
    assert kept(rows) == wanted
    assert {reason for reason, _ in first_visits(rows, PEOPLE).values()} <= {"later-visit"}
