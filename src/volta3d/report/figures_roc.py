"""ROC curves: what each arm's scores separate, over all test scans."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from sklearn.metrics import roc_curve

from volta3d.report.arm_style import looks, short
from volta3d.report.style import MINUS, MUTED, SERIES, UNKNOWN, chart, number
from volta3d.report.task_run import TaskRun

SIZE = (4.4, 3.6)


def roc(run: TaskRun) -> Markup | None:
    """Each arm's curve, scores of several seeds averaged per scan; None without two classes."""
    if run.scores is None or not len(run.scores):
        return None
    style = looks(run.arms, run.volume_arms)
    curves = {}
    for arm in run.arms:
        own = run.scores[run.scores["arm"] == arm].groupby("scan_id")[["target", "score"]].mean()
        if own["target"].nunique() == 2:
            fpr, tpr, _ = roc_curve(own["target"] > 0.5, own["score"], drop_intermediate=False)
            curves[arm] = (fpr, tpr)
    if not curves:
        return None
    told = {arm: _score(run, arm) for arm in curves}

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        for arm, (fpr, tpr) in curves.items():
            line = (0, (5, 2)) if arm in run.volume_arms else "-"
            colour = style[arm]["color"] if arm in style else SERIES[0]
            label = f"{short(arm)} {told[arm]}"
            axes.plot(fpr, tpr, color=colour, linestyle=line, label=label, linewidth=1.5)
        axes.set(xlabel=f"1 {MINUS} specificity", ylabel="sensitivity", aspect="equal")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.4)

    words = "; ".join(f"{arm} {told[arm]}" for arm in curves)
    return chart(draw, alt=f"ROC curves of {run.target}; pooled AUROC: {words}.", size=SIZE)


def _score(run: TaskRun, arm: str) -> str:
    row = run.row(arm, "AUROC pooled")
    return number(row["score"], 2) if row else UNKNOWN
