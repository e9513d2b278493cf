"""What changed over training: losses, collapse monitors, probe, schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from volta3d.report.evidence import METRIC_NAMES
from volta3d.report.runfolder import Points, Run
from volta3d.report.style import ALARM, CHART, MUTED, SERIES, chart, number, panels

MOST_POINTS = 600  # of a line; more cannot be seen and makes the page heavy
ROUND = [1, 2, 2.5, 5, 10]  # steps between ticks
CROWDED = 0.11  # of the axis; a label is about as high
SMOOTH = 50  # windows that a smoothed line is made of
SCHEDULES = (
    ("lr", "learning rate"),
    ("momentum", "teacher momentum"),
    ("teacher_temperature", "teacher temperature"),
    ("weight_decay", "weight decay"),
    ("cls_weight", "CLS weight"),
)
POOLED = (("token", "summariser token"), ("mean", "mean of patch tokens"))
SCORES = ("auroc", "auc", "r", "r2", "balanced_accuracy", "accuracy", "score", "mae")


@dataclass(frozen=True)
class Line:
    """One line of a chart; ``raw`` draws single steps faintly under their running mean."""

    label: str
    points: Points
    raw: bool = False


@dataclass(frozen=True)
class Limit:
    """A horizontal line to read the chart by."""

    value: float
    label: str
    alarm: bool = False
    colour: str = MUTED


def curve(
    lines: Sequence[Line],
    *,
    alt: str,
    limits: Sequence[Limit] = (),
    log: bool = False,
    floor: float = 1e-3,
    end: int = 0,
) -> Markup | None:
    """A chart of values against the optimiser step; None when no line has a point.

    Args:
        lines: what to draw, the most important first.
        alt: what the chart is about; first and last values are added.
        limits: reference lines.
        log: logarithmic values; those below ``floor`` are drawn at it.
        floor: the smallest value on a logarithmic axis.
        end: the last optimiser step, the same for all charts of a run.
    """
    shown = [line for line in lines if len(line.points[1])]
    if not shown:
        return None

    def draw(axes: Axes) -> None:
        for colour, line in zip(SERIES, shown, strict=False):
            _draw_line(axes, line, colour, floor if log else None)
        for limit in limits:
            axes.axhline(limit.value, **_dashed(limit))
        span(axes, end)
        if log:
            logarithmic(axes)
        else:
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
            axes.yaxis.set_major_formatter(FuncFormatter(plain))
        _label_limits(axes, limits)
        steps(axes)
        if len(shown) > 1:
            place: dict[str, Any] = {
                "loc": "lower left",
                "bbox_to_anchor": (-0.02, 1.0),
                "borderaxespad": 0.1,
            }
            axes.legend(ncols=3, handlelength=1.1, columnspacing=1.2, **place)

    return chart(draw, alt=f"{alt}. {_words(shown, limits)}")


def _words(lines: Sequence[Line], limits: Sequence[Limit]) -> str:
    parts = []
    for line in lines:
        steps_, values = line.points
        first, last = number(float(values[0])), number(float(values[-1]))
        parts.append(
            f"{line.label}: {first} at step {number(int(steps_[0]))}, "
            f"{last} at step {number(int(steps_[-1]))}"
        )
    parts += [f"line at {number(limit.value, trim=True)}: {limit.label}" for limit in limits]
    return "; ".join(parts) + "."


def _draw_line(axes: Axes, line: Line, colour: str, floor: float | None) -> None:
    x, y = line.points
    if floor is not None:
        y = np.maximum(y, floor)
    if line.raw:
        axes.plot(*thin(x, y), color=colour, linewidth=0.6, alpha=0.35)
        x, y = smooth(x, y)
    marker = "o" if not line.raw and len(x) <= 40 else ""
    axes.plot(*thin(x, y), color=colour, label=line.label, marker=marker, markersize=2.6)


def _dashed(limit: Limit) -> dict[str, Any]:
    colour = ALARM if limit.alarm else limit.colour
    return {"color": colour, "linewidth": 0.9, "linestyle": (0, (4, 3))}


def _label_limits(axes: Axes, limits: Sequence[Limit]) -> None:
    """Words on the lines; below a line where another stands close above it."""
    to_axes = axes.transData + axes.transAxes.inverted()
    above = math.inf
    for limit in sorted(limits, key=lambda limit: -limit.value):
        height = float(to_axes.transform((0.0, limit.value))[1])
        under = above - height < CROWDED
        above = height
        axes.annotate(
            limit.label,
            (1.0, limit.value),
            xycoords=("axes fraction", "data"),
            xytext=(0, -2 if under else 2),
            textcoords="offset points",
            ha="right",
            va="top" if under else "bottom",
            fontsize=8,
            color=_dashed(limit)["color"],
        )


def plain(value: float, _: int | None = None) -> str:
    """A tick's number."""
    return number(float(value), trim=True)


def precise(value: float, _: int | None = None) -> str:
    """A tick's number where values differ late, such as .9985."""
    return number(float(value), 5, trim=True)


def span(axes: Axes, end: int) -> None:
    """The axis of optimiser steps from 0 to ``end``, with room for the marks at both."""
    axes.set_xlim(-0.012 * max(end, 1), 1.012 * max(end, 1))
    axes.set_xlabel("optimiser step")


def steps(axes: Axes) -> None:
    """Few whole numbers along the axis of optimiser steps."""
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=ROUND))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: number(round(v))))


def logarithmic(axes: Axes) -> None:
    """A logarithmic axis with plain numbers and room for its reference lines."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    wide = high / max(low, 1e-12) > 30
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(plain))


def thin(x: np.ndarray, y: np.ndarray) -> Points:
    """At most ``MOST_POINTS`` points, the first and last kept."""
    if len(x) <= MOST_POINTS:
        return x, y
    kept = np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).round().astype(int))
    return x[kept], y[kept]


def smooth(x: np.ndarray, y: np.ndarray) -> Points:
    """The running mean over a fiftieth of the points, at every point."""
    half = len(y) // (2 * SMOOTH)
    if half == 0:
        return x, y
    total = np.concatenate([[0.0], np.cumsum(y)])
    low = np.maximum(np.arange(len(y)) - half, 0)
    high = np.minimum(np.arange(len(y)) + half + 1, len(y))
    return x, (total[high] - total[low]) / (high - low)


@dataclass(frozen=True)
class QuickProbe:
    """What the monitors' quick probe found over training; ``column`` empty when it found nothing.

    Attributes:
        column: of participants.tsv.
        metric: as the run calls it.
        lines: one per pooling.
        before: the same before training (epoch 0).
    """

    column: str
    metric: str
    lines: list[Line]
    before: list[Limit]

    @property
    def title(self) -> str:
        """What is drawn, with the score's name."""
        if not self.column:
            return "Quick probe"
        score = METRIC_NAMES.get(self.metric, self.metric.replace("_", " "))
        return f"Quick probe on {self.column}" + (f", {score}" if score else "")


def quick_probe(run: Run) -> QuickProbe:
    """The quick probe's scores over training, with those of the untrained encoder."""
    column, metric, lines, before = "", "", [], []
    for record in run.epochs:
        probe = record.get("probe")
        if not isinstance(probe, dict):
            continue
        column = column or str(probe.get("column", ""))
        for kind in ("token", "mean"):
            metric = metric or _score_name(probe.get(kind))
    for colour, (kind, label) in zip(SERIES, POOLED, strict=False):
        points = run.epoch_series(f"probe.{kind}.{metric}" if metric else f"probe.{kind}")
        lines.append(Line(label, points))
        if len(points[0]) and points[0][0] == 0:
            before.append(Limit(float(points[1][0]), f"untrained {kind}", colour=colour))
    return QuickProbe(column, metric, lines, before)


def _score_name(scores: object) -> str:
    if not isinstance(scores, dict):
        return ""
    numeric = [k for k, v in scores.items() if isinstance(v, int | float) and k != "n"]
    return next((name for name in SCORES if name in numeric), numeric[0] if numeric else "")


def constants(run: Run) -> str:
    """The scheduled values that never moved, in words."""
    found = [(label, run.step_series(name)[1]) for name, label in SCHEDULES]
    still = [(label, float(y[0])) for label, y in found if len(y) and np.ptp(y) == 0]
    if not still:
        return ""
    words = ", ".join(f"{label} {number(value, trim=True)}" for label, value in still)
    return f"Constant: {words}."


def schedules(run: Run, *, end: int) -> Markup | None:
    """The scheduled values that move, one above the other."""
    rows = [(label, run.step_series(name)) for name, label in SCHEDULES]
    rows = [(label, points) for label, points in rows if len(points[1]) and np.ptp(points[1]) > 0]
    if not rows:
        return None
    words = "; ".join(
        f"{label} from {number(float(y[0]))} to {number(float(y[-1]))}, "
        f"highest {number(float(y.max()))}"
        for label, (_, y) in rows
    )

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (label, points) in zip(grid, rows, strict=True):
            axes.plot(*thin(*points), color=SERIES[0])
            axes.set_title(label, fontsize=8.5, loc="left", pad=2)
            axes.yaxis.set_major_locator(MaxNLocator(2))
            axes.yaxis.set_major_formatter(FuncFormatter(precise))
            axes.margins(y=0.15)
        span(grid[-1], end)
        steps(grid[-1])

    size = (CHART[0], 0.6 + 0.75 * len(rows))
    return panels(draw, alt=f"Schedules. {words}.", size=size)
