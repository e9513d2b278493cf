"""Every fold's score as a dot beside the mean and its interval."""

from __future__ import annotations

import math

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from volta3d.report.arm_style import looks, short
from volta3d.report.figures_curves import plain
from volta3d.report.style import INK, MUTED, chart, number
from volta3d.report.task_run import TaskRun

CHANCE = {"AUROC": 0.5, "AUROC pooled": 0.5, "balanced accuracy at Youden": 0.5, "r": 0.0}


def folds(run: TaskRun, metric: str) -> Markup | None:
    """A row for each arm: single folds, the score and its 95 % interval over participants."""
    found = [(arm, row) for arm in run.arms if (row := run.row(arm, metric)) is not None]
    if not found:
        return None
    style = looks(run.arms, run.volume_arms)

    def draw(axes: Axes) -> None:
        for y, (arm, row) in enumerate(found):
            look = style[arm]
            single = [v for v in row.get("folds", []) if isinstance(v, float)]
            axes.plot(single, [y] * len(single), ".", color=look["color"], alpha=0.5, markersize=6)
            low, high = row.get("low"), row.get("high")
            if isinstance(low, float) and isinstance(high, float):
                axes.plot([low, high], [y, y], color=look["color"], linewidth=2.2, alpha=0.5)
            if isinstance(row.get("score"), float):
                axes.plot(row["score"], y, markersize=7, **look)
            place = (1.03, y)
            axes.annotate(
                interval_words(row), place, xycoords=("axes fraction", "data"), va="center",
                fontsize=10, color=INK,
            )  # fmt: skip
        if metric in CHANCE:
            axes.axvline(CHANCE[metric], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set_yticks(range(len(found)), [short(arm) for arm, _ in found])
        axes.tick_params(axis="y", labelsize=10, labelcolor=INK)
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(plain))
        axes.set_xlabel(metric)

    words = "; ".join(f"{arm} {interval_words(row)}" for arm, row in found)
    return chart(
        draw, alt=f"{metric} on {run.target}: {words}.", size=(4.9, 1.1 + 0.36 * len(found))
    )


def interval_words(row: dict[str, object], digits: int = 2) -> str:
    """A score with its interval in brackets."""
    score, low, high = (row.get(k) for k in ("score", "low", "high"))
    text = _fixed(score, digits)
    known = [v for v in (low, high) if isinstance(v, int | float) and not math.isnan(v)]
    return f"{text} [{_fixed(low, digits)}, {_fixed(high, digits)}]" if len(known) == 2 else text


def _fixed(value: object, digits: int) -> str:
    if not isinstance(value, int | float) or math.isnan(value):
        return number(None)
    text = f"{value:.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}") if float(text) else text.lstrip("-")
