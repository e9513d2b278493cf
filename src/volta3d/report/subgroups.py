"""Scores by site, sex and age group, computed from predictions: who an arm serves less well."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from volta3d.report.figures_folds import interval_words
from volta3d.report.figures_predictions import decisions
from volta3d.report.style import number
from volta3d.report.tables import Table
from volta3d.report.task_run import TaskRun

AGES = ((0, 30), (30, 50), (50, 70), (70, 200))
FEWEST = 5  # scans that a score is given for


def subgroup_table(run: TaskRun, participants: pd.DataFrame | None) -> Table | None:
    """Every arm's score in each group of people; None without a cohort that tells who they are.

    Args:
        run: scored.
        participants: of its cohort, with ``scan_id``, ``site``, ``sex`` and ``age``.
    """
    told = _scored(run)
    if told is None or participants is None:
        return None
    metric, table = told
    groups = dict(_groups(participants))
    rows = []
    for name, scans in groups.items():
        own = table[table["scan_id"].isin(scans)]
        count = int(own["scan_id"].nunique())
        if not count:
            continue
        cells = [_score(own[own["arm"] == arm], metric) for arm in run.arms]
        rows.append((name, number(count), *(interval_words({"score": v}) for v in cells)))
    if len(rows) < 2:
        return None
    return Table(
        f"{metric} by site, sex and age group. Without intervals: groups are small, and "
        f"differences between them may be chance. Below {FEWEST} scans no score is given.",
        ("Group", "Scans", *run.arms),
        rows,
        numeric=frozenset(range(1, 2 + len(run.arms))),
        folded=True,
    )


def _groups(people: pd.DataFrame) -> Iterator[tuple[str, set[str]]]:
    """Names of groups, and the scans in each."""
    for column in ("site", "sex"):
        known = people[people[column].astype(str) != ""] if column in people else people[:0]
        for value, group in known.groupby(column):
            yield f"{column} {value}", set(group["scan_id"].astype(str))
    if "age" in people:
        age = pd.to_numeric(people["age"], errors="coerce")
        for low, high in AGES:
            name = f"age {low} to {high}" if high < 200 else f"age {low} and over"
            yield name, set(people[(age >= low) & (age < high)]["scan_id"].astype(str))


def _scored(run: TaskRun) -> tuple[str, pd.DataFrame] | None:
    """What a group's score is called, and one row a scan and arm with what it is made from."""
    if run.kind == "segmentation":
        if run.cases is None:
            return None
        present = run.cases[run.cases["status"] != "absent"]
        dice = present.groupby(["arm", "case"])["dice"].mean().reset_index()
        return "Dice", dice.rename(columns={"case": "scan_id", "dice": "value"})
    if run.predictions is None:
        return None
    if run.kind == "regression":
        seeds = run.predictions.groupby(["arm", "scan_id"])[["target", "score"]]
        table = seeds.mean().reset_index()
        return "MAE", table.assign(value=(table["score"] - table["target"]).abs())
    if run.scores is not None:
        both = run.scores.groupby(["arm", "scan_id"], as_index=False)[["target", "score"]].mean()
        return "AUROC pooled", both
    decided = decisions(run)
    if decided is None:
        return None
    right = (decided["decided"] == decided["target"].astype(str)).astype(float)
    return "accuracy", decided.assign(value=right)


def _score(own: pd.DataFrame, metric: str) -> float | None:
    if len(own) < FEWEST:
        return None
    if metric != "AUROC pooled":
        return float(own["value"].mean())
    truth = own["target"].to_numpy(float) > 0.5
    if truth.all() or not truth.any():
        return None
    return float(roc_auc_score(truth, own["score"].to_numpy(np.float64)))
