"""What went wrong without an error: arms no better than guessing, outlines of nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from volta3d.report.evidence import Probe
from volta3d.report.figures_folds import CHANCE, interval_words
from volta3d.report.figures_probes import interval_text
from volta3d.report.tables_tasks import main_metric
from volta3d.report.task_run import TaskRun
from volta3d.report.verdict import POOLINGS

NEAR_ZERO = 0.1  # Dice: the label map hardly touches the structure


def weak_arms(tasks: Sequence[TaskRun]) -> list[str]:
    """A sentence for each arm that is no better than guessing, or whose Dice is near zero."""
    found = []
    for task in tasks:
        if not task.metrics:
            continue
        for arm in task.arms:
            sentence = _outlined(task, arm) if task.kind == "segmentation" else _guessed(task, arm)
            found += [sentence] if sentence else []
    return found


def weak_features(scores: Sequence[Probe]) -> list[str]:
    """A sentence for each column that the trained features do not know better than guessing."""
    found = []
    for probe in scores:
        chance = probe.chance
        if probe.role != "trained" or probe.confound or chance is None or probe.probe != "linear":
            continue
        if math.isnan(probe.low) or probe.low > chance:
            continue
        what = POOLINGS.get(probe.pooling, probe.features)
        found.append(
            f"Probe of {probe.column}: {what} is no better than guessing, {probe.metric_name} "
            f"{interval_text(probe)}, guessing {chance:g}."
        )
    return found


def _guessed(task: TaskRun, arm: str) -> str:
    metric = main_metric(task)
    row = task.row(arm, metric) or {}
    chance, low = CHANCE.get(metric), _float(row.get("low"))
    if chance is None or not low <= chance:
        return ""
    return (
        f"{task.name}: arm {arm} is no better than guessing {task.target}, {metric} "
        f"{interval_words(row)}, guessing {chance:g}."
    )


def _outlined(task: TaskRun, arm: str) -> str:
    whole = list(task.metrics["results"][arm].values())[-1]  # the mean of structures
    dice = _float((whole.get("dice") or {}).get("mean"))
    if not dice < NEAR_ZERO:
        return ""
    return f"{task.name}: arm {arm} outlined next to nothing of {task.target}, Dice {dice:.2f}."


def _float(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
