"""The sections that show one run: monitors, losses, schedules, and its pictures in their place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from volta3d.objective.terms import TERMS
from volta3d.report.blocks import Exhibit, Group, Section
from volta3d.report.evidence import Absent, Probe
from volta3d.report.figures_curves import Limit, Line, constants, curve, quick_probe, schedules
from volta3d.report.runfolder import Points, Run
from volta3d.report.section_attention import attention_section
from volta3d.report.sections_pictures import reconstructions, tokens
from volta3d.report.style import SERIES, number
from volta3d.report.tables import monitor_table
from volta3d.report.verdict import RANK_WARNING, limits_of, standardised

MOST_SCANS = 4


def run_group(
    run: Run, index: int, images: Path, *, titled: bool, probes: list[Probe] | Absent
) -> Group:
    """All sections of a run.

    Args:
        run: what was read.
        index: its place in the report, for names of anchors and files.
        images: the folder that pictures go to, beside the page.
        titled: whether the run's name heads them.
        probes: for the volumes' score beside the quick probe.
    """
    prefix = f"run{index}-"
    sections = [
        _monitors(run, prefix, probes),
        _losses(run, prefix),
        reconstructions(run, prefix, images, scans=MOST_SCANS),
        tokens(run, prefix, images, scans=MOST_SCANS),
        attention_section(run, prefix, images, scans=MOST_SCANS),
        _schedules(run, prefix),
    ]
    return Group(f"run{index}", run.name if titled else "", sections)


def _exhibits(charts: Sequence[tuple[str, str, Markup | None]]) -> list[Exhibit]:
    return [Exhibit(title, note, svg) for title, note, svg in charts if svg is not None]


def _alarm_limits(name: str) -> list[Limit]:
    return [Limit(value, words, alarm=True) for value, words in limits_of(name)]


def _monitors(run: Run, prefix: str, probes: list[Probe] | Absent) -> Section:
    end = run.last_step
    line = run.epoch_series
    quick = quick_probe(run)
    volume = _volume_line(quick.column, quick.metric, probes)
    spared = standardised(run)
    ratio = run.config.objective if run.config else None
    needed = ratio.teacher_temperature[1] / ratio.student_temperature if ratio else None
    charts = [
        (
            "Information over scans, nat",
            "How much the teacher's output tells about which scan it saw. Falls to 0 in either "
            "collapse: the one to trust.",
            curve(
                [Line("information", line("information"))],
                alt="Information of the teacher's outputs over scans, in nat",
                limits=_alarm_limits("information"),
                log=True,
                floor=5e-3,
                end=end,
            ),
        ),
        (
            "Teacher entropy, share of ln K",
            "Of single scans, and of the mean over scans. Alive: the first well below the second.",
            curve(
                [
                    Line("one scan", line("teacher_entropy")),
                    Line("mean of scans", line("mean_entropy")),
                ],
                alt="Entropy of the teacher's distributions as a share of ln K",
                limits=_alarm_limits("teacher_entropy"),
                end=end,
            ),
        ),
        (
            "Effective rank",
            "How many directions the summariser's features span.",
            curve(
                [Line("effective rank", line("effective_rank"))],
                alt="Effective rank of the features",
                limits=[Limit(RANK_WARNING, "warning"), *_alarm_limits("effective_rank")],
                log=True,
                floor=1.0,
                end=end,
            ),
        ),
        (
            "Mean cosine between scans",
            "Near 1 all brains look the same to the network."
            + (
                " Only the bottleneck can ring: what all features share is subtracted before it."
                if spared
                else ""
            ),
            curve(
                [
                    Line("features", line("mean_cosine")),
                    Line("bottleneck", line("bottleneck_cosine")),
                ],
                alt="Mean cosine between the features of different scans",
                limits=_alarm_limits("bottleneck_cosine" if spared else "mean_cosine"),
                end=end,
            ),
        ),
        (
            "ICC",
            "Share of the features' variance that lies between scans, not between views of one."
            + (
                " The CLS loss can live above the dashed line, the teacher's temperature over the "
                "student's."
                if needed
                else ""
            ),
            curve(
                [Line("ICC", line("icc"))],
                alt="Share of feature variance between scans",
                limits=[Limit(needed, f"temperature ratio {number(needed, trim=True)}")]
                if needed
                else [],
                end=end,
            ),
        ),
        (
            quick.title,
            "Cross-validated on the monitored scans, without intervals: for the trend. Dashed: "
            "before training (epoch 0)"
            + (
                "; volume only: head and brain volume, from the probe table's linear probe."
                if volume
                else "."
            ),
            curve(
                quick.lines,
                alt=f"{quick.title}, over training",
                limits=[*quick.before, *volume],
                end=end,
            ),
        ),
    ]
    shown = _exhibits(charts)
    table = monitor_table(run)
    return Section(
        f"{prefix}monitors",
        "Collapse monitors",
        lead="Measured on the same scans after every monitored epoch. Dashed red lines are alarms.",
        sentences=[] if shown else ["No epoch record has been written yet, so nothing is drawn."],
        charts=shown,
        tables=[table] if table else [],
    )


def _losses(run: Run, prefix: str) -> Section:
    end, log_k = run.last_step, run.log_prototypes
    known = [Limit(log_k, f"ln K = {number(log_k)}")] if log_k else []
    line = run.step_series
    charts = [
        (term.title, term.caption + (_held_back(run) if term.name == "cls" else ""), chart)
        for term, chart in zip(TERMS, _terms(run, known), strict=True)
    ]
    charts += [
        (
            "Gradient norm",
            "Before clipping.",
            curve(
                [Line("all losses", line("gradient_norm"), raw=True)],
                alt="Gradient norm",
                log=True,
                floor=1e-8,
                end=end,
            ),
        ),
        (
            "Gradient norm by loss",
            "Of the weighted losses on the student's encoder, where not 0. CLS far below patch "
            "starves.",
            curve(
                [
                    Line(name, _positive(run.epoch_series(f"gradient_norms.{key}")))
                    for key, name in ((term.name, term.title.split(",")[0]) for term in TERMS)
                ],
                alt="Gradient norm of each weighted loss",
                log=True,
                floor=1e-8,
                end=end,
            ),
        ),
        (
            "Total, weighted",
            "What is minimised. It falls in a collapse too, so it proves little.",
            curve([Line("total", line("loss"), raw=True)], alt="Weighted sum of losses", end=end),
        ),
    ]
    shown = _exhibits(charts)
    return Section(
        f"{prefix}losses",
        "Losses",
        folded=True,
        lead="Unweighted unless said otherwise. Faint: every step; strong: running mean.",
        sentences=[] if shown else ["No step record has been written yet, so nothing is drawn."],
        charts=shown,
    )


def _terms(run: Run, known: list[Limit]) -> list[Markup | None]:
    """One chart a loss term: ``known`` limits where it is a cross-entropy over prototypes."""
    charts = []
    for term in TERMS:
        series = run.step_series(term.name)
        lines = [Line(term.name, series, raw=True)] if np.any(series[1]) else []
        if term.name != "reconstruction":
            limits = known if term.uses & {"cls_head", "patch_head"} else []
            charts.append(curve(lines, alt=term.title, limits=limits, end=run.last_step))
            continue
        foreground = run.step_series("reconstruction_foreground")
        lines = [Line("all masked", series, raw=True), Line("foreground", foreground, raw=True)]
        charts.append(curve(lines, alt=term.title, log=True, floor=1e-6, end=run.last_step))
    return charts


def _volume_line(column: str, metric: str, probes: list[Probe] | Absent) -> list[Limit]:
    """The score of head and brain volume alone on what the quick probe asks."""
    if isinstance(probes, Absent):
        return []
    wanted = (column, "linear", metric.replace("_", " "))
    found = [
        probe.score
        for probe in probes
        if probe.role == "volume"
        and (probe.column, probe.probe.lower(), probe.metric.lower().replace("_", " ")) == wanted
    ]
    return [Limit(found[0], "volume only", colour=SERIES[2])] if found else []


def _held_back(run: Run) -> str:
    """A sentence on the steps at whose weight the CLS loss is measured but not trained."""
    steps, weight = run.step_series("cls_weight")
    trained = steps[weight > 0]
    if not len(steps) or weight[0] > 0:
        return ""
    until = f"before step {number(int(trained[0]))}" if len(trained) else "so far"
    return f" Its weight is 0 {until}: there it is measured, not trained."


def _positive(points: Points) -> Points:
    steps, values = points
    return steps[values > 0], values[values > 0]


def _schedules(run: Run, prefix: str) -> Section:
    end = run.last_step
    rate = curve(
        [Line("scans per second", run.step_series("scans_per_second"), raw=True)],
        alt="Scans per second",
        end=end,
    )
    shown = _exhibits(
        [
            ("Scheduled values", constants(run), schedules(run, end=end)),
            ("Speed, scans per second", "", rate),
        ]
    )
    return Section(
        f"{prefix}schedules",
        "Schedules",
        folded=True,
        sentences=[] if shown else ["No step record has been written yet, so nothing is drawn."],
        charts=shown,
    )
