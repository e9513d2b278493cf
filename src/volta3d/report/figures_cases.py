"""Every case of a segmentation as a dot, the same case joined across the arms."""

from __future__ import annotations

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from volta3d.report.arm_style import looks, short
from volta3d.report.figures_curves import plain
from volta3d.report.style import INK, MUTED, chart, number
from volta3d.report.task_run import TaskRun

NAMES = {"dice": "Dice", "hd95_mm": "HD95, mm"}
SPREAD = 0.16  # sideways, so that equal scores do not cover each other


def cases(run: TaskRun, metric: str) -> Markup | None:
    """Mean over structures of each case; a missed structure has no distance and is left out.

    Args:
        run: of ``segment``.
        metric: ``dice`` or ``hd95_mm``.
    """
    if run.cases is None:
        return None
    present = run.cases[run.cases["status"] != "absent"]
    table = (
        present.groupby(["case", "arm"])[metric]
        .agg(lambda v: v.mean(skipna=False))
        .unstack("arm")
        .reindex(columns=run.arms)
    )
    if not np.isfinite(table.to_numpy(float)).any():
        return None
    style = looks(run.arms)
    sideways = np.random.default_rng(0).uniform(-SPREAD, SPREAD, len(table))

    def draw(axes: Axes) -> None:
        values = table.to_numpy(float)
        places = np.arange(len(run.arms))[None] + sideways[:, None]
        for x, y in zip(places, values, strict=True):
            axes.plot(x, y, color=MUTED, linewidth=0.5, alpha=0.35)
        for column, arm in enumerate(run.arms):
            look = style[arm]
            axes.plot(
                places[:, column], values[:, column], look["marker"], color=look["color"],
                markersize=4, alpha=0.75, linestyle="none",
            )  # fmt: skip
            middle = np.nanmedian(values[:, column]) if _any(values[:, column]) else np.nan
            axes.plot([column - 0.28, column + 0.28], [middle, middle], color=INK, linewidth=1.6)
        axes.set_xticks(range(len(run.arms)), [short(arm) for arm in run.arms])
        axes.set_xlim(-0.6, len(run.arms) - 0.4)
        axes.tick_params(axis="x", labelsize=10, labelcolor=INK)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(plain))
        axes.grid(axis="x", visible=False)
        axes.set_ylabel(NAMES[metric])

    words = "; ".join(f"{arm} median {number(_median(table[arm]))}" for arm in run.arms)
    alt = f"{NAMES[metric]} of {len(table)} cases by arm: {words}."
    return chart(draw, alt=alt, size=(4.4, 3.0))


def _any(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).any())


def _median(values: pd.Series) -> float | None:
    known = values.dropna()
    return float(known.median()) if len(known) else None
