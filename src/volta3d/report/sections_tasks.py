"""The sections of a run of ``classify`` or ``segment``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from volta3d.errors import VoltaError
from volta3d.evaluate.classification.summary_lines import empty_text, fitted_text
from volta3d.report.blocks import Exhibit, Group, Section, Viewer
from volta3d.report.figures_calibration import calibration
from volta3d.report.figures_cases import NAMES, cases
from volta3d.report.figures_fitting import fitting
from volta3d.report.figures_folds import folds
from volta3d.report.figures_predictions import (
    bland_altman,
    confusion,
    predicted_against_true,
)
from volta3d.report.figures_reduced import reduced
from volta3d.report.figures_roc import roc
from volta3d.report.labels_shown import outlines
from volta3d.report.subgroups import subgroup_table
from volta3d.report.tables import Table, config_table
from volta3d.report.tables_tasks import (
    fraction_table,
    main_metric,
    pair_table,
    refused_table,
    score_table,
    segmentation_table,
    test_table,
)
from volta3d.report.task_run import TaskRun

SIZE_TELLS = (
    "No arm here knows volume alone, and sex can be read from the size of a head. "
    "Add one with: --arm volume=volume --resume"
)
OPTIMISTIC = (
    "The epoch was chosen on the reported scans themselves, as in the paper: these numbers are "
    "optimistic."
)


def own_cohort(run: TaskRun, cohorts: Sequence[Path]) -> Path | None:
    """Which of several cohorts a run is about, by its hash; the first one if that is not told."""
    from volta3d.cohort.store import Cohort  # zarr and torch load slowly and only here

    about = run.config.get("cohort")
    wanted = str(about.get("cohort", "")) if isinstance(about, dict) else ""
    for path in cohorts:
        try:
            if wanted and Cohort.open(path).hash() == wanted:
                return path
        except VoltaError:
            continue  # what is wrong with it is said where it is shown
    return cohorts[0] if cohorts else None


def people_of(cohort: Path | None) -> pd.DataFrame | None:
    """The participants of a cohort; None without one that can be read."""
    from volta3d.cohort.store import Cohort  # as above

    try:
        return Cohort.open(cohort).participants if cohort is not None else None
    except VoltaError:
        return None


def task_group(run: TaskRun, index: int, folder: Path, cohort: Path | None) -> Group:
    """All sections of a downstream run.

    Args:
        run: what was read.
        index: its place in the report, for names of anchors and files.
        folder: the report's, for pictures and viewers.
        cohort: the run's cohort, for its scans; None draws none.
    """
    prefix = f"task{index}-"
    if run.kind == "segmentation":
        sections = [_segmented(run, prefix, folder, cohort)]
    else:
        sections = [_told(run, prefix, cohort)]
    return Group(f"task{index}", run.name, [*sections, _settings(run, prefix)])


def warnings(run: TaskRun) -> list[str]:
    """What a reader must know before the numbers."""
    found = []
    if run.target.lower() in {"sex", "gender"} and run.metrics and not run.volume_arms:
        found.append(SIZE_TELLS)
    if "OPTIMISTIC" in str(run.metrics.get("selection", "")):
        found.append(OPTIMISTIC)
    if run.metrics.get("dropped"):
        file = "dropped.tsv" if run.elsewhere else "folds.json"
        found.append(f"{run.metrics['dropped']} scan(s) were left out; {file} says why.")
    found += [f"{f['arm']}: {f['what']}." for f in run.metrics.get("findings") or []]
    found += _saw(run)
    if run.metrics.get("empty_classes"):
        found.append(f"{empty_text(run.metrics['empty_classes'])}.")
    count = int(run.metrics.get("scans") or 0)
    fitted = [fitted_text(a, about, count) for a, about in _arms_declared(run).items()]
    found += [f"{text}." for text in fitted if text]
    return [f"{run.name}: {text}" for text in found]


def _arms_declared(run: TaskRun) -> dict[str, dict[str, Any]]:
    declared = run.metrics.get("arms") or run.config.get("arms") or {}
    return {name: about for name, about in declared.items() if isinstance(about, dict)}


def _saw(run: TaskRun) -> list[str]:
    """What the encoders of the arms had seen of these scans, as ``classify`` found it."""
    arms: dict[str, list[str]] = {}
    for name, about in _arms_declared(run).items():
        saw = str(about.get("pretraining_saw", "none"))
        if saw not in ("none", "None", ""):
            arms.setdefault(saw, []).append(name)
    return [
        f"It is not known what pretraining {' and '.join(names)} saw of this cohort."
        if saw == "unknown"
        else f"In pretraining {' and '.join(names)} saw {saw}."
        for saw, names in arms.items()
    ]


def _exhibits(charts: Sequence[tuple[str, str, Markup | None]]) -> list[Exhibit]:
    return [Exhibit(title, note, svg) for title, note, svg in charts if svg is not None]


def _told(run: TaskRun, prefix: str, cohort: Path | None) -> Section:
    metric = main_metric(run)
    charts = [
        (
            f"{metric}" if run.elsewhere else f"{metric}, folds and mean",
            "Line: 95 % interval over participants."
            if run.elsewhere
            else "Dots: single folds. Line: 95 % interval over participants. With few test scans a "
            "fold most of the spread between folds is sampling noise.",
            folds(run, metric) if metric else None,
        ),
        (
            f"{metric} with less to train on",
            "Bands: 95 % intervals over participants; small dots: single seeds.",
            reduced(run, metric) if metric else None,
        ),
        (
            "Confusion matrix",
            "Counts of test scans, first seed; shade: share of the row. Two classes are decided at "
            "the threshold that each fold's inner validation part chose.",
            confusion(run),
        ),
        (
            f"Predicted against true {run.target}",
            "Each dot a scan; on the dashed line the prediction is right.",
            predicted_against_true(run),
        ),
        ("ROC curves", "Over all test scans; in the legend the pooled AUROC.", roc(run)),
        (
            "Calibration",
            "On the dashed line a probability comes true as often as it says.",
            calibration(run),
        ),
        (
            "Training",
            "Mean over folds and seeds; dashed: on the inner validation part.",
            fitting(run),
        ),
    ]
    tables = [score_table(run), fraction_table(run), pair_table(run)] if run.metrics else []
    tables.append(subgroup_table(run, people_of(cohort)))
    return Section(
        f"{prefix}scores",
        f"{run.target[:1].upper()}{run.target[1:]}: arms compared",
        lead="Scores that models told which had been fitted before."
        if run.elsewhere
        else "Cross-validated by participant on the same folds for every arm.",
        sentences=warnings(run),
        charts=_exhibits(charts),
        tables=[t for t in tables if t is not None],
    )


def _segmented(run: TaskRun, prefix: str, folder: Path, cohort: Path | None) -> Section:
    pictures, viewer, sentences = outlines(run, prefix, folder, cohort)
    charts = [
        (
            f"{title}, case by case",
            "Each dot a case, mean over its structures; thin lines join the same case; bar: "
            "median.",
            cases(run, metric),
        )
        for metric, title in NAMES.items()
    ]
    charts.append(
        (
            "Bland-Altman of volumes",
            "Difference to the reference against the mean of both; lines: bias, dashed: 95 % "
            "limits of agreement.",
            bland_altman(run),
        )
    )
    charts.append(("Training", "Mean over folds and seeds.", fitting(run)))
    tables: list[Table | None] = []
    if run.metrics:
        tables = [refused_table(run), segmentation_table(run), test_table(run)]
        tables.append(test_table(run, each=True))
        tables.append(subgroup_table(run, people_of(cohort)))
    shown: Viewer | None = viewer
    return Section(
        f"{prefix}scores",
        f"{run.target[:1].upper()}{run.target[1:]}: arms compared",
        lead="Label maps in each scan's own space against the reference.",
        sentences=[*warnings(run), *sentences],
        charts=_exhibits(charts),
        pictures=pictures,
        viewer=shown,
        tables=[t for t in tables if t is not None],
    )


def _settings(run: TaskRun, prefix: str) -> Section:
    return Section(f"{prefix}settings", "Settings", tables=[config_table(run.config)], folded=True)
