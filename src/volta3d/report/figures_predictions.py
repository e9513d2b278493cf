"""What was predicted beside what is true: confusion matrix, scatter, Bland-Altman."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from volta3d.report.arm_style import looks, short
from volta3d.report.style import INK, MINUS, MUTED, SERIES, chart, number, panels
from volta3d.report.task_run import TaskRun

MOST_ARMS = 4
AGREEMENT = 1.96  # standard deviations of the difference that hold 95 % of it


def decisions(run: TaskRun) -> pd.DataFrame | None:
    """Of the first seed, one row a scan and arm: ``arm``, ``scan_id``, ``target``, ``decided``.

    Two classes are decided at the threshold that each fold chose on its inner validation part
    (Youden's), more by the highest score.
    """
    labels = [str(x) for x in run.metrics.get("labels", [])]
    if run.kind != "classification" or run.predictions is None or len(labels) < 2:
        return None
    table = run.predictions
    table = table[table["seed"] == table["seed"].min()].copy()
    if len(labels) == 2:
        above = table["score"] >= table["threshold"].fillna(0.5)
        table["decided"] = np.where(above, labels[1], labels[0])
    else:
        scores = table[[f"score {label}" for label in labels]].to_numpy(float)
        table["decided"] = np.array(labels)[scores.argmax(axis=1)]
    found: pd.DataFrame = table[["arm", "scan_id", "target", "decided"]]
    return found


def confusion(run: TaskRun) -> Markup | None:
    """A matrix for each of the first arms: rows are the truth, columns what was decided."""
    table = decisions(run)
    if table is None or not len(table):
        return None
    labels = [str(x) for x in run.metrics["labels"]]
    arms = [arm for arm in run.arms if (table["arm"] == arm).any()][:MOST_ARMS]
    counts = {arm: _counts(table[table["arm"] == arm], labels) for arm in arms}

    def draw(figure: Figure) -> None:
        for axes, arm in zip(figure.subplots(1, len(arms), squeeze=False)[0], arms, strict=True):
            _matrix(axes, counts[arm], labels)
            axes.set_title(short(arm), fontsize=9.5, color=INK)
            if arm == arms[0]:
                axes.set_ylabel("truth")

    words = "; ".join(
        f"{arm}: {int(np.trace(found))} of {int(found.sum())} right"
        for arm, found in counts.items()
    )
    edge = 0.9 + 0.3 * len(labels)
    alt = f"Confusion matrices of {run.target}. {words}."
    return panels(draw, alt=alt, size=(max(edge * len(arms), 2.6), edge + 0.5))


def _counts(table: pd.DataFrame, labels: Sequence[str]) -> np.ndarray:
    found = np.zeros((len(labels), len(labels)), int)
    place = {label: i for i, label in enumerate(labels)}
    for target, decided in zip(table["target"].astype(str), table["decided"], strict=True):
        found[place[target], place[decided]] += 1
    return found


def _matrix(axes: Axes, counts: np.ndarray, labels: Sequence[str]) -> None:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for row, column in np.ndindex(counts.shape):
        colour = SERIES[0] if row == column else SERIES[1]
        axes.add_patch(
            Rectangle(
                (column - 0.5, row - 0.5), 1, 1, color=colour, alpha=0.6 * shares[row, column]
            )
        )
        axes.text(column, row, number(int(counts[row, column])), ha="center", va="center")
    axes.set(xlim=(-0.5, len(labels) - 0.5), ylim=(len(labels) - 0.5, -0.5), aspect="equal")
    names = [label[:14] for label in labels]
    axes.set_xticks(range(len(labels)), names, rotation=30 if max(map(len, names)) > 5 else 0)
    axes.set_yticks(range(len(labels)), names)
    axes.set_xlabel("decided")
    axes.grid(visible=False)


def predicted_against_true(run: TaskRun) -> Markup | None:
    """Of a regression: each scan as a dot, several seeds averaged; the dashed line is perfect."""
    if run.kind != "regression" or run.predictions is None or not len(run.predictions):
        return None
    means = run.predictions.groupby(["arm", "scan_id"])[["target", "score"]].mean()
    present = set(means.index.get_level_values("arm"))
    arms = [arm for arm in run.arms if arm in present][:MOST_ARMS]
    style = looks(run.arms, run.volume_arms)
    low, high = float(means["target"].min()), float(means["target"].max())

    def draw(axes: Axes) -> None:
        axes.plot([low, high], [low, high], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        for arm in arms:
            own = means.loc[arm]
            axes.scatter(
                own["target"], own["score"], s=14, alpha=0.7, linewidths=0, label=short(arm),
                **style[arm],
            )  # fmt: skip
        axes.set(xlabel=f"true {run.target}", ylabel=f"predicted {run.target}")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)

    names = ", ".join(arms)
    return chart(draw, alt=f"Predicted against true {run.target} of {names}.", size=(4.4, 3.2))


def bland_altman(run: TaskRun) -> Markup | None:
    """Of a segmentation: the volume's difference to the reference against their mean, in ml.

    A panel for each structure; lines at the bias and at the 95 % limits of agreement.
    """
    table = run.cases
    if table is None or not {"reference_mm3", "mm3"} <= set(table.columns):
        return None
    known = table[table["status"] != "absent"].dropna(subset=["reference_mm3", "mm3"])
    structures = list(dict.fromkeys(known["structure"].astype(str)))[:MOST_ARMS]
    if not structures:
        return None
    style = looks(run.arms)
    arms = run.arms[:MOST_ARMS]

    def draw(figure: Figure) -> None:
        rows = figure.subplots(len(structures), 1, squeeze=False)[:, 0]
        for axes, structure in zip(rows, structures, strict=True):
            for arm in arms:
                own = known[(known["structure"] == structure) & (known["arm"] == arm)]
                _agreement(axes, own, short(arm), style[arm])
            axes.axhline(0, color=MUTED, linewidth=0.7)
            axes.set_title(structure, fontsize=9.5, loc="left", color=INK)
            axes.set_ylabel(f"arm {MINUS} reference, ml")
            axes.margins(x=0.08)
        rows[-1].set_xlabel("mean of arm and reference, ml")
        rows[0].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)

    bias = known.assign(error=(known["mm3"] - known["reference_mm3"]) / 1000)
    words = "; ".join(
        f"{arm} bias {number(float(bias[bias['arm'] == arm]['error'].mean()))} ml" for arm in arms
    )
    alt = f"Bland-Altman of volumes: {words}."
    return panels(draw, alt=alt, size=(4.6, 0.6 + 2.3 * len(structures)))


def _agreement(axes: Axes, own: pd.DataFrame, name: str, look: dict[str, Any]) -> None:
    if not len(own):
        return
    mean = (own["mm3"] + own["reference_mm3"]) / 2000
    error = (own["mm3"] - own["reference_mm3"]) / 1000
    axes.scatter(mean, error, s=16, alpha=0.7, linewidths=0, label=name, **look)
    bias, spread = (
        float(error.mean()),
        AGREEMENT * float(error.std(ddof=1)) if len(own) > 1 else 0.0,
    )
    axes.axhline(bias, color=look["color"], linewidth=1.3)
    for limit in (bias - spread, bias + spread):
        axes.axhline(limit, color=look["color"], linewidth=0.8, linestyle=(0, (2, 2)))
