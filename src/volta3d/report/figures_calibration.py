"""Calibration: whether a probability of .8 comes true in 80 % of the scans that got it."""

from __future__ import annotations

from markupsafe import Markup
from matplotlib.axes import Axes

from volta3d.report.arm_style import looks, short
from volta3d.report.style import MUTED, chart
from volta3d.report.task_run import TaskRun

SIZE = (4.4, 3.6)


def calibration(run: TaskRun) -> Markup | None:
    """Share observed against mean probability in ten bins; the dot's area is the scans in it."""
    curves = {
        str(c["arm"]): c["curve"]
        for c in run.metrics.get("calibration", [])
        if float(c["fraction"]) == run.full and c["curve"]
    }
    if not curves:
        return None
    style = looks(run.arms, run.volume_arms)
    most = max(int(point["n"]) for points in curves.values() for point in points)

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        for arm, points in curves.items():
            x, y = ([float(p[k]) for p in points] for k in ("predicted", "observed"))
            areas = [6 + 60 * int(p["n"]) / most for p in points]
            axes.plot(x, y, color=style[arm]["color"], linewidth=1.0, alpha=0.7)
            axes.scatter(x, y, s=areas, label=short(arm), linewidths=0, **style[arm])
        axes.set(xlabel="probability told", ylabel="share observed", aspect="equal")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03))
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)

    alt = f"Calibration of {', '.join(curves)} on {run.target}: share observed against probability."
    return chart(draw, alt=alt, size=SIZE)
