"""How the arms of a downstream run learnt: loss by epoch, averaged over folds and seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from volta3d.report.arm_style import looks, short
from volta3d.report.figures_curves import plain
from volta3d.report.style import chart, number
from volta3d.report.task_run import TaskRun


def fitting(run: TaskRun) -> Markup | None:
    """Training loss of each arm (solid) and loss on the inner validation part (dashed)."""
    curves = {
        arm: {name: _mean(run.training.get(arm, []), name) for name in ("loss", "inner_loss")}
        for arm in run.arms
    }
    shown = {arm: own for arm, own in curves.items() if len(own["loss"][0]) > 1}
    if not shown:
        return None
    style = looks(run.arms, run.volume_arms)

    def draw(axes: Axes) -> None:
        for arm, own in shown.items():
            colour = style[arm]["color"]
            axes.plot(*own["loss"], color=colour, label=short(arm))
            axes.plot(*own["inner_loss"], color=colour, linestyle=(0, (4, 2)), linewidth=1.1)
        axes.set(xlabel="epoch", ylabel="loss")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(plain))
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, handlelength=1.4,
            columnspacing=1.2, borderaxespad=0.1,
        )  # fmt: skip

    words = "; ".join(
        f"{arm} from {number(float(own['loss'][1][0]))} to {number(float(own['loss'][1][-1]))}"
        for arm, own in shown.items()
    )
    return chart(draw, alt=f"Training loss by epoch: {words}.")


def _mean(records: list[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The mean of a value over all records of an epoch."""
    by_epoch: dict[int, list[float]] = {}
    for record in records:
        value, epoch = record.get(name), record.get("epoch")
        if isinstance(value, int | float) and isinstance(epoch, int):
            by_epoch.setdefault(epoch, []).append(float(value))
    epochs = sorted(by_epoch)
    return np.array(epochs), np.array([np.mean(by_epoch[e]) for e in epochs])
