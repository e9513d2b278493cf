"""A task's table in the form of the publication it repeats, the published figures beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from volta3d.config.study import TaskEntry
from volta3d.evaluate.segmentation.summary import CASES, read_cases
from volta3d.study.jobs import MAPS
from volta3d.study.markdown import number, table

Metrics = Mapping[str, Any]
THRESHOLDS = {
    "half": (("sensitivity at .5", "specificity at .5"), "the threshold .5"),
    "youden": (
        ("sensitivity at Youden", "specificity at Youden"),
        "Youden's J, chosen on validation people",
    ),
}
SEGMENTED = {"Dice": "dice", "HD95 (mm)": "hd95_mm"}


def published_form(task: TaskEntry, metrics: Metrics, run: Path) -> list[str]:
    """The table, and the figure's numbers, as paragraphs of Markdown; [] where none is asked for.

    Args:
        metrics: what the run's metrics.json holds.
        run: the task's folder.
    """
    if not task.table:
        return []
    if task.kind == "segmentation":
        return _segmentation(task, run)
    return _classification(task, metrics)


def _classification(task: TaskEntry, metrics: Metrics) -> list[str]:
    (sensitivity, specificity), where = THRESHOLDS[task.threshold]
    wanted = {"AUROC": "AUROC", "sensitivity": sensitivity, "specificity": specificity}
    full = max(r["fraction"] for r in metrics["rows"])
    rows = []
    for arm in task.arms:
        cells = [_folds(metrics, arm, full, metric) for metric in wanted.values()]
        rows.append([arm, *cells, *_printed(task, arm, list(wanted))])
    people = f"{metrics['subjects']} people, {metrics['scans']} scans"
    if task.set.get("visits") == "first":
        people += ", one a person: the first visit with one of the classes"
    classes = " against ".join(metrics["labels"])
    about = (
        f"**{task.table}.** {classes}: {people}. Mean ± standard deviation over "
        f"{metrics['folds']} folds at {where}; positive: {metrics.get('positive') or 'none'}."
    )
    head = ["model", *wanted, *(f"published: {name}" for name in wanted)]
    return [about, table(head, rows), *_figure(task, metrics)]


def _figure(task: TaskEntry, metrics: Metrics) -> list[str]:
    """AUROC at every part of the training data, the numbers behind a figure."""
    fractions = sorted({r["fraction"] for r in metrics["rows"]})
    if not task.figure or len(fractions) < 2:
        return []
    rows = [[arm, *(_folds(metrics, arm, f, "AUROC") for f in fractions)] for arm in task.arms]
    about = f"**{task.figure}.** AUROC by the share of the training part; the report draws it."
    return [about, table(["model", *(f"{100 * f:g} %" for f in fractions)], rows)]


def _folds(metrics: Metrics, arm: str, fraction: float, metric: str) -> str:
    for row in metrics["rows"]:
        if (row["arm"], row["fraction"], row["metric"]) == (arm, fraction, metric):
            values = [f for f in row.get("folds", []) if isinstance(f, int | float)]
            mean = row.get("fold_mean", sum(values) / len(values) if values else row["score"])
            return _spread(mean, row.get("fold_sd"))
    return ""


def _segmentation(task: TaskEntry, run: Path) -> list[str]:
    rows = [[arm, *_cases(found), *_printed(task, arm, list(SEGMENTED))]
            for arm, found in _by_arm(run / CASES).items()]  # fmt: skip
    maps = run / MAPS / CASES
    if maps.is_file():
        name = Path(task.reference).name
        rows += [[f"label maps of `{name}`", *_cases(found), "", ""]
                 for found in _by_arm(maps).values()]  # fmt: skip
    part = f"a hold-out of {100 * task.holdout:g} %" if task.holdout else f"{task.folds} folds"
    about = (
        f"**{task.table}.** Mean ± standard deviation over the test scans of {part}, each the "
        "mean of its structures; a missed structure has no HD95 and is counted below."
    )
    head = ["model", *SEGMENTED, *(f"published: {name}" for name in SEGMENTED)]
    found = [about, table(head, rows)]
    if task.figure:
        names = ("figures/outlines.png", "figures/surfaces.png")
        drawn = [name for name in names if (run / name).is_file()]
        pictures = " ".join(f"![{task.figure}](tasks/{run.name}/{name})" for name in drawn)
        found += [f"**{task.figure}.** Outlines of the test scans. {pictures}"] if drawn else []
    return found


def _by_arm(file: Path) -> dict[str, pd.DataFrame]:
    """For each arm, one row a case: its scores, averaged over structures and repetitions."""
    cases = read_cases(file)
    metrics = list(SEGMENTED.values())
    return {
        str(arm): cases[cases["arm"] == arm].groupby("case")[metrics].mean()
        for arm in dict.fromkeys(cases["arm"])
    }


def _cases(found: pd.DataFrame) -> list[str]:
    return [_spread(found[m].mean(), found[m].std(ddof=1)) for m in SEGMENTED.values()]


def _printed(task: TaskEntry, arm: str, names: Sequence[str]) -> list[str]:
    own = task.published.get(arm, {})
    return [own.get(name, "not legible" if task.published and own else "") for name in names]


def _spread(mean: float, deviation: float | None) -> str:
    if deviation is None or not math.isfinite(deviation):
        return number(mean)
    return f"{number(mean)} ± {number(deviation)}"
