"""Scores by site, sex and age group, with intervals over the people of each group."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from volta3d.artefacts import PARTICIPANTS
from volta3d.errors import UsageError
from volta3d.evaluate.metrics_file import MAIN
from volta3d.evaluate.text_table import aligned, number
from volta3d.prepare.tables import read_table
from volta3d.statistics.intervals import interval, resample_subjects
from volta3d.statistics.scores import (
    Predictions,
    Score,
    averaged,
    mean_absolute_error,
    within_fold_auroc,
)
from volta3d.statistics.weighted import Drawn, mean_of

COLUMNS = ("site", "sex")
AGES = (0, 30, 50, 70)  # where age groups begin, in years
FEWEST = 5  # scans that a score is given for
RESAMPLES = 2000
Group = tuple[str, str]  # column, value
Row = dict[str, Any]


def read_groups(people: Path) -> dict[Group, set[str]]:
    """The ids of each group: of scans, and of participants who are in that group alone.

    Args:
        people: a cohort's participants.tsv or the cohort, or a table with ``scan_id`` or
            ``participant_id`` and ``site``, ``sex`` or ``age``.

    Raises:
        UsageError: the table names no scans, or has none of the columns.
        CohortError: it cannot be read.
    """
    file = people / PARTICIPANTS if people.is_dir() else people
    rows = read_table(file)
    columns = set(rows[0]) if rows else set()
    if not columns & {"scan_id", "participant_id"} or not columns & {*COLUMNS, "age"}:
        raise UsageError(
            "Groups of people need a table with scan_id or participant_id, and site, sex or age",
            where=file,
            fix="Give participants.tsv of the cohort: --people COHORT/participants.tsv",
        )
    found: dict[Group, set[str]] = {}
    for key in ("scan_id", "participant_id"):
        own: dict[Group, set[str]] = {}
        for row in rows:
            for group in _groups_of(row) if row.get(key) else ():
                own.setdefault(group, set()).add(row[key])
        for group, ids in own.items():
            others = [i for g, i in own.items() if g[0] == group[0] and g != group]
            found.setdefault(group, set()).update(ids.difference(*others))
    return dict(sorted(found.items()))


def _groups_of(row: Mapping[str, str]) -> list[Group]:
    groups = [(column, row[column]) for column in COLUMNS if row.get(column)]
    try:
        age = float(row.get("age", ""))
    except ValueError:
        return groups
    starts = [start for start in AGES if age >= start]
    if not starts:
        return groups
    later = [start for start in AGES if start > starts[-1]]
    return [*groups, ("age", f"{starts[-1]} to {later[0]}" if later else f"{starts[-1]} and over")]


def of_predictions(
    groups: Mapping[Group, Collection[str]],
    ids: Sequence[Collection[str]],
    subjects: np.ndarray,
    arms: Mapping[str, Sequence[Predictions]],
    kind: str,
) -> list[Row]:
    """Main score of each arm in each group: AUROC over pairs within folds, or MAE.

    Args:
        groups: see ``read_groups``.
        ids: [n] by which names a scan may be known.
        subjects: [n] whose each scan is.
        arms: arm to the predictions [n] of each of its seeds.
        kind: classification or regression.
    """
    score: Score = within_fold_auroc if kind == "classification" else mean_absolute_error
    found = []
    for group, members in groups.items():
        rows = np.array([members_of(own, members) for own in ids], bool)
        for arm, seeds in arms.items():
            drawn = averaged(score, [tested.part(rows) for tested in seeds])
            found += _row(group, arm, MAIN[kind], drawn, subjects[rows])
    return found


def of_cases(
    groups: Mapping[Group, Collection[str]],
    ids: Mapping[str, Collection[str]],
    cases: pd.DataFrame,
) -> list[Row]:
    """Mean Dice over structures of each arm in each group, repetitions averaged.

    Args:
        groups: see ``read_groups``.
        ids: case to the names its scan may be known by.
        cases: scored, with ``arm``, ``case``, ``subject``, ``status`` and ``dice``.
    """
    present = cases[cases["status"] != "absent"]
    mean = present.groupby(["arm", "case", "subject"], sort=False)["dice"].mean().reset_index()
    found = []
    for group, members in groups.items():
        inside = mean[[members_of(ids[case], members) for case in mean["case"]]]
        for arm in dict.fromkeys(mean["arm"]):
            own = inside[inside["arm"] == arm]
            drawn = mean_of(own["dice"].to_numpy(np.float64))
            found += _row(group, str(arm), "Dice", drawn, own["subject"].to_numpy())
    return found


def members_of(ids: Collection[str], group: Collection[str]) -> bool:
    """Whether a scan, by any of its names, is in a group."""
    return any(name in group for name in ids)


def _row(group: Group, arm: str, metric: str, drawn: Drawn, subjects: np.ndarray) -> list[Row]:
    """One row; none for a group without scans, no score for one with few."""
    if not len(subjects):
        return []
    score = low = high = np.nan
    if len(subjects) >= FEWEST:
        score, low, high = interval(drawn, resample_subjects(subjects, RESAMPLES, seed=0))
    return [
        {
            **{"column": group[0], "group": group[1], "arm": arm, "metric": metric},
            **{"score": score, "low": low, "high": high},
            **{"scans": len(subjects), "subjects": len(np.unique(subjects))},
        }
    ]


def subgroup_lines(metrics: Mapping[str, Any]) -> list[str]:
    """The rows as a table for a terminal; nothing without any."""
    rows = metrics.get("subgroups", [])
    if not rows:
        return []
    lines = [["group", "arm", rows[0]["metric"], "95 % interval", "scans", "subjects"]]
    lines += [
        [
            f"{r['column']} {r['group']}",
            r["arm"],
            number(r["score"]),
            f"{number(r['low'])} to {number(r['high'])}",
            str(r["scans"]),
            str(r["subjects"]),
        ]
        for r in rows
    ]
    few = f"By group of people; no score for fewer than {FEWEST} scans"
    return ["", few, *aligned(lines)]
