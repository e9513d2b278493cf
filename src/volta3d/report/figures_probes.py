"""Scores with their intervals, one row per kind of features."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from volta3d.report.evidence import Probe, Role
from volta3d.report.style import INK, MINUS, MUTED, SERIES, UNKNOWN, number, panels

COLOURS: dict[Role, str] = {
    "trained": SERIES[0],
    "random": SERIES[1],
    "volume": SERIES[2],
    "other": SERIES[3],
}
SHAPES: dict[Role, str] = {"trained": "o", "random": "s", "volume": "D", "other": "^"}
ORDER: tuple[Role, ...] = ("trained", "random", "volume", "other")


def interval_text(probe: Probe) -> str:
    """The score with its interval, two decimals."""
    return _interval(_two(probe.score), probe.low, probe.high)


def gain_text(probe: Probe) -> str:
    """The paired difference to the untrained encoder with its interval; a dash when unknown."""
    if math.isnan(probe.gain):
        return UNKNOWN
    point = _two(probe.gain)
    sign = "" if point[0] == MINUS or float(point) == 0 else "+"
    return _interval(sign + point, probe.gain_low, probe.gain_high)


def _interval(point: str, low: float, high: float) -> str:
    if math.isnan(low) or math.isnan(high):
        return point
    return f"{point} [{_two(low)}, {_two(high)}]"


def _two(value: float) -> str:
    """Two decimals, and no minus before a zero."""
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", MINUS)


def forest(rows: Sequence[Probe]) -> Markup:
    """All scores of one column as one figure: a panel for each probe and metric, trained on top."""
    groups: dict[tuple[str, str], list[Probe]] = {}
    for row in rows:
        groups.setdefault((row.probe, row.metric), []).append(row)
    parts = [sorted(group, key=lambda p: ORDER.index(p.role)) for group in groups.values()]
    alt = " ".join(
        f"{part[0].metric} of the {part[0].probe} probe on {part[0].column}: "
        + "; ".join(f"{p.features} {interval_text(p)}" for p in part)
        + "."
        for part in parts
    )
    heights = [0.95 + 0.32 * len(part) for part in parts]

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axis, part in zip(axes, parts, strict=True):
            _panel(axis, part)
            if len(parts) > 1:
                axis.set_title(part[0].probe_name, fontsize=9.5, loc="left", color=MUTED)

    return panels(draw, alt=alt, size=(4.9, sum(heights) + 0.1))


def _panel(axes: Axes, ordered: Sequence[Probe]) -> None:
    for y, probe in enumerate(ordered):
        colour = COLOURS[probe.role]
        if not (math.isnan(probe.low) or math.isnan(probe.high)):
            axes.plot([probe.low, probe.high], [y, y], color=colour, linewidth=2.2, alpha=0.5)
        axes.plot(probe.score, y, SHAPES[probe.role], color=colour, markersize=6)
        strong = "bold" if probe.role == "trained" else "normal"
        axes.annotate(
            interval_text(probe), (1.03, y), xycoords=("axes fraction", "data"), va="center",
            fontsize=10, color=INK, fontweight=strong,
        )  # fmt: skip
    chance = ordered[0].chance
    if chance is not None:
        axes.axvline(chance, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.annotate(
            "chance", (chance, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 2),
            textcoords="offset points", ha="center", fontsize=9, color=MUTED,
        )  # fmt: skip
    axes.tick_params(axis="x", labelsize=9)
    axes.set_yticks(range(len(ordered)), [p.features[:24] for p in ordered])
    axes.tick_params(axis="y", labelsize=10, labelcolor=INK)
    axes.set_ylim(len(ordered) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: number(float(v), trim=True)))
    axes.margins(x=0.08)
    axes.set_xlabel(ordered[0].scale)
