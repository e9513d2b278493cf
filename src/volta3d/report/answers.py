"""The answer first: what was compared, which is better, by how much, how sure.

The rule is fixed beforehand. Probes: better where the 95 % interval of the paired gain leaves out
0. Classification and regression: better where the interval of the difference leaves out 0 and the
test's p after Holm's correction is below .05. Segmentation: where that p is below .05. Everything
else is no clear difference, however large it looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from volta3d.report.evidence import Probe
from volta3d.report.figures_cases import NAMES
from volta3d.report.figures_folds import interval_words
from volta3d.report.figures_probes import gain_text, interval_text
from volta3d.report.style import MINUS, UNKNOWN, number
from volta3d.report.tables_tasks import main_metric
from volta3d.report.task_run import TaskRun
from volta3d.report.verdict import POOLINGS, Comparison, State

ALPHA = 0.05
LESS = {"MAE", "hd95_mm", "Brier", "ECE"}  # metrics of which less is better
NOBODY = "no clear difference"
CONFOUND = "a confound: less is better"
UNTOLD = "cannot be compared"  # no case has the measure for both, as where a structure is missed


@dataclass(frozen=True)
class Finding:
    """One line of the answer.

    Attributes:
        question: what was asked, of whom.
        compared: the two that were compared.
        better: which, or that there is no clear difference.
        by: the difference with its interval.
        sure: how sure that is.
        volume: what head and brain volume alone reach.
        state: good when the first of the two is better, bad when the second.
    """

    question: str
    compared: str
    better: str
    by: str
    sure: str
    volume: str
    state: State


def answers(tasks: Sequence[TaskRun], probes: Sequence[Comparison]) -> list[Finding]:
    """Downstream runs first, then probes; the first arm of a run against each other one."""
    found = [line for task in tasks for line in _of_task(task)]
    return found + [line for comparison in probes for line in _of_probe(comparison)]


def alone(tasks: Sequence[TaskRun]) -> list[str]:
    """A sentence for each run of one scored arm, which has nothing to be compared with."""
    return [_reached(task) for task in tasks if len(task.arms) == 1]


def _reached(task: TaskRun) -> str:
    arm = task.arms[0]
    if task.kind == "segmentation":
        whole = list(task.metrics["results"][arm].values())[-1]  # the mean of structures
        dice = whole.get("dice") or {}
        row = {"score": dice.get("mean"), "low": dice.get("low"), "high": dice.get("high")}
        what, missed = f"Dice {interval_words(row, 3)}", whole.get("missed")
        people = f"{number(whole.get('cases'))} cases, {number(missed)} with a structure missed"
    else:
        metric = main_metric(task)
        what = f"{metric} {interval_words(task.row(arm, metric) or {}, 3)}"
        people = f"{number(task.metrics.get('subjects'))} participants"
    return (
        f"{task.name}, {task.target}: {arm} reached {what} on {people}. {_others(task)}: nothing "
        "here says what another would have reached."
    )


def _others(task: TaskRun) -> str:
    """Why an arm stands alone: there is no other, or no other is scored."""
    others = [str(a) for a in task.config.get("arms") or {} if str(a) not in task.arms]
    if not others:
        return "It is the run's one arm"
    return f"The run's other arms are not scored yet ({', '.join(others)})"


def _of_task(task: TaskRun) -> list[Finding]:
    if task.kind == "segmentation":
        pairs = [t for t in task.metrics.get("tests", []) if t["metric"] in NAMES]
        return [_segmented(task, _turned(t, task.arms[0])) for t in pairs if _has(t, task)]
    pairs = [c for c in task.metrics.get("comparisons", []) if float(c["fraction"]) == task.full]
    return [_told(task, _turned(c, task.arms[0])) for c in pairs if _has(c, task)]


def _has(pair: dict[str, Any], task: TaskRun) -> bool:
    return task.arms[0] in (pair["first"], pair["second"])


def _turned(pair: dict[str, Any], main: str) -> dict[str, Any]:
    """A pair with the arm ``main`` first, its difference counted from there."""
    if pair["first"] == main:
        return pair
    minus = {
        name: -pair[of] if isinstance(pair.get(of), int | float) else None
        for name, of in (
            ("difference", "difference"),
            ("median_difference", "median_difference"),
            ("low", "high"),
            ("high", "low"),
        )
    }
    return {**pair, **minus, "first": main, "second": pair["first"]}


def _told(task: TaskRun, pair: dict[str, Any]) -> Finding:
    metric = str(pair["metric"])
    low, high, p = (_float(pair.get(k)) for k in ("low", "high", "p_holm"))
    state = _state(low, high, p, less=metric in LESS)
    first, second = str(pair["first"]), str(pair["second"])
    row = {"score": pair["difference"], "low": pair["low"], "high": pair["high"]}
    return Finding(
        question=f"{task.target}, {number(task.metrics.get('subjects'))} participants",
        compared=f"{first} against {second}",
        better={"good": first, "bad": second}.get(state, NOBODY),
        by=f"{_signed(interval_words(row, 3))} {metric}",
        sure=f"{pair['test']}: {_p(pair.get('p'))}, after Holm {_p(pair.get('p_holm'))}",
        volume=_volume(task, metric),
        state=state,
    )


def _volume(task: TaskRun, metric: str) -> str:
    for arm in task.volume_arms:
        row = task.row(arm, metric)
        if row:
            return f"{interval_words(row)} ({arm})"
    return "not measured" if task.target.lower() in {"sex", "gender"} else UNKNOWN


def _segmented(task: TaskRun, test: dict[str, Any]) -> Finding:
    metric, first, second = (str(test[k]) for k in ("metric", "first", "second"))
    row = {"score": test.get("difference"), "low": test.get("low"), "high": test.get("high")}
    gain, p = _float(row["score"]), _float(test.get("p_holm"))
    ahead = (gain < 0) == (metric in LESS) and gain != 0
    clear = p < ALPHA and not math.isnan(gain)
    state: State = "unclear" if not clear else "good" if ahead else "bad"
    return Finding(
        question=f"{task.target}, {number(test.get('n'))} participants",
        compared=f"{first} against {second}",
        better={"good": first, "bad": second}.get(state, UNTOLD if math.isnan(gain) else NOBODY),
        by=f"{_signed(interval_words(row, 3))} {NAMES[metric]}",
        sure=f"Wilcoxon: {_p(test.get('p'))}, after Holm {_p(test.get('p_holm'))}",
        volume=UNKNOWN,
        state=state,
    )


def _of_probe(comparison: Comparison) -> list[Finding]:
    volume = next((p for p in comparison.rows if p.role == "volume"), None)
    lines = []
    for answer in comparison.answers:
        trained = answer.trained
        state: State = "unclear" if trained.confound else answer.untrained or "unclear"
        name = POOLINGS.get(trained.pooling, trained.features)
        known = answer.untrained is not None and not math.isnan(trained.gain)
        lines.append(
            Finding(
                question=f"{trained.column}, {number(trained.n)} scans",
                compared=f"trained against untrained encoder, {name}, {trained.probe_name}",
                better=CONFOUND
                if trained.confound
                else {"good": "trained", "bad": "untrained"}.get(state, NOBODY),
                by=f"{gain_text(trained)} {trained.metric_name}" if known else UNKNOWN,
                sure=_sure(trained, known),
                volume=interval_text(volume) if volume else "not measured",
                state=state,
            )
        )
    return lines


def _sure(trained: Probe, known: bool) -> str:
    if not known:
        return "no paired interval"
    inside = trained.gain_low <= 0 <= trained.gain_high
    return f"the paired 95 % interval {'holds' if inside else 'leaves out'} 0"


def _state(low: float, high: float, p: float, *, less: bool) -> State:
    """NaN never decides."""
    if not p < ALPHA:
        return "unclear"
    above, below = low > 0, high < 0
    if less:
        above, below = below, above
    return "good" if above else "bad" if below else "unclear"


def _float(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _signed(text: str) -> str:
    return text if text[:1] in (MINUS, UNKNOWN) else f"+{text}"


def _p(value: Any) -> str:
    p = _float(value)
    if math.isnan(p):
        return "p undefined"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
