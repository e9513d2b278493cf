"""Figure 2: how the scores fall when there is less to train on, with bands."""

from __future__ import annotations

import math

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from volta3d.report.arm_style import looks, short
from volta3d.report.figures_curves import plain
from volta3d.report.style import chart, number
from volta3d.report.task_run import TaskRun

SIZE = (4.8, 3.1)


def reduced(run: TaskRun, metric: str) -> Markup | None:
    """A metric against the fraction of the training part; None for a single fraction.

    Line: mean over seeds; band: 95 % interval over participants; small dots: single seeds.
    """
    fractions = sorted({float(r["fraction"]) for r in run.rows})
    if len(fractions) < 2:
        return None
    style = looks(run.arms, run.volume_arms)
    points = {}
    for arm in run.arms:
        rows = [run.row(arm, metric, f) for f in fractions]
        points[arm] = [(f, r) for f, r in zip(fractions, rows, strict=True) if r]

    def draw(axes: Axes) -> None:
        for arm, own in points.items():
            x = np.array([100 * f for f, _ in own])
            score, low, high = (_column(own, k) for k in ("score", "low", "high"))
            look = style[arm]
            axes.fill_between(x, low, high, color=look["color"], alpha=0.14, linewidth=0)
            axes.plot(x, score, label=short(arm), markersize=4, **look)
            for fraction, row in own:
                seeds = [v for v in row.get("seeds", []) if isinstance(v, float)]
                if len(seeds) > 1:
                    at = [100 * fraction] * len(seeds)
                    axes.plot(at, seeds, ".", color=look["color"], markersize=2.5, alpha=0.6)
        axes.set_xticks([100 * f for f in fractions])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} %"))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(plain))
        axes.set(xlabel="of the training part", ylabel=metric)
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, handlelength=1.4,
            columnspacing=1.2, borderaxespad=0.1,
        )  # fmt: skip

    words = "; ".join(
        f"{arm} " + ", ".join(f"{number(r['score'], 2)} at {100 * f:g} %" for f, r in own)
        for arm, own in points.items()
    )
    return chart(draw, alt=f"{metric} on {run.target} by training part: {words}.", size=SIZE)


def _column(own: list[tuple[float, dict[str, object]]], name: str) -> np.ndarray:
    values = [row.get(name) for _, row in own]
    return np.array([v if isinstance(v, int | float) else math.nan for v in values], float)
