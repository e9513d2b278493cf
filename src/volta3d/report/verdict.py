"""The answer at the top: did the run collapse, and do its features know more than random ones?

Both rules are fixed beforehand. Collapse is what the run's own alarms say of its last record.
"Better" is said of the linear probe, of features pooled alike, and needs a paired gain whose 95 %
interval leaves out 0; where only separate intervals are known they must not overlap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from volta3d.pretrain import guard
from volta3d.report.evidence import METRIC_ORDER, Probe
from volta3d.report.figures_probes import gain_text
from volta3d.report.runfolder import Run
from volta3d.report.style import number

State = Literal["good", "bad", "unclear"]
POOLINGS = {
    "token": "the summariser's token",
    "mean": "the mean of patch tokens",
    "regions": "the means of patch tokens over 27 regions",
}
UNTRAINED, VOLUME = "the untrained encoder", "head and brain volume alone"

# The limits live with the alarms; a record that breaks them all tells what they are.
_LOW = {"information": -1.0, "effective_rank": -1.0}
_HIGH = {"mean_cosine": 2.0, "bottleneck_cosine": 2.0}
LOWEST = {a.name: a.limit for a in guard.alarms(dict(_LOW), scans=guard.MIN_SCANS)}
HIGHEST = {a.name: a.limit for a in guard.alarms(dict(_HIGH), scans=guard.MIN_SCANS)}
# the entropy is judged step by step, its figure shows the same limits
LOWEST["teacher_entropy"], HIGHEST["teacher_entropy"] = guard.ENTROPY_LOW, guard.ENTROPY_HIGH
RANK_WARNING, CLS_MARGIN = guard.RANK_WARNING, guard.FLAT
RECENT = 0.05  # the share of steps that "now" averages over


@dataclass(frozen=True)
class Fact:
    """One number of the headline, before and after."""

    label: str
    before: str
    after: str
    note: str
    state: State


@dataclass(frozen=True)
class Health:
    """Whether self-distillation lives."""

    state: State
    title: str
    sentence: str
    facts: list[Fact]


@dataclass(frozen=True)
class Answer:
    """The trained encoder's features, pooled one way, beside what they must beat."""

    trained: Probe
    untrained: State | None
    volume: State | None
    sentence: str


@dataclass(frozen=True)
class Comparison:
    """One column under one probe and metric: every kind of features, and an answer per pooling."""

    rows: list[Probe]
    answers: list[Answer]


def health(run: Run) -> Health:
    """Whether a run collapsed, from its last epoch record."""
    facts = _facts(run)
    if not run.epochs:
        return Health(
            "unclear", "Not known yet", "No monitor record has been written so far.", facts
        )
    last = run.epochs[-1]
    if len(run.epochs) == 1 and not last.get("epoch"):
        return Health(
            "unclear",
            "Not known yet",
            "Only the record from before training is there, when every network looks collapsed.",
            facts,
        )
    watched = _watched(run)
    found = guard.alarms(last, scans=guard.MIN_SCANS, standardised=standardised(run))
    ringing = [alarm for alarm in found if alarm.level == "stop"]
    names = {alarm.name for alarm in ringing}
    caution = (
        f" The monitors saw only {watched} scans; below {guard.MIN_SCANS} they say little."
        if watched is not None and watched < guard.MIN_SCANS
        else ""
    )
    if "information" in names:
        what = "; ".join(f"{a.what} ({_words(a.name)} {number(a.value)})" for a in ringing)
        return Health("bad", "Collapsed", f"At the last record {what}.{caution}", facts)
    if names:
        what = "; ".join(f"{a.what} ({_words(a.name)} {number(a.value)})" for a in ringing)
        return Health("bad", "Features degenerate", f"At the last record {what}.{caution}", facts)
    if "information" not in last or last["information"] is None:
        return Health(
            "unclear", "Not known", "The last record does not hold the information.", facts
        )
    sentence = (
        f"The teacher's outputs carry {number(last['information'])} nat of information about "
        f"which scan they saw; the alarm is at {_limit(LOWEST['information'])}."
    )
    sentence += _rang(run, found)
    state: State = "unclear" if caution else "good"
    return Health(state, "Not collapsed", sentence + caution, facts)


def _rang(run: Run, found: Sequence[guard.Alarm]) -> str:
    """Which alarms rang at the last record and which before, for a run that did not collapse."""
    end = run.epochs[-1].get("step")
    last = {_words(str(a.get("name"))) for a in run.alarms if a.get("step") == end}
    now = sorted(last | {_words(alarm.name) for alarm in found})
    before = sorted({_words(str(a.get("name"))) for a in run.alarms} - set(now))
    text = f" Worth a look at its last record: {', '.join(now)}." if now else ""
    if before:
        text += f" Earlier in the run alarms rang ({', '.join(before)})"
        text += "." if now else "; none rings now."
    return text


def standardised(run: Run) -> bool:
    """Whether the bottleneck is, so that the cosine of the features themselves rings nothing."""
    objective = run.raw.get("objective")
    return isinstance(objective, dict) and objective.get("bottleneck") == "standardised"


def _watched(run: Run) -> int | None:
    if run.scans is None or run.config is None:
        return run.scans
    return min(run.scans, run.config.monitor.scans)


def _limit(value: float) -> str:
    return number(value, trim=True)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _facts(run: Run) -> list[Fact]:
    facts = []
    _, information = run.epoch_series("information")
    if len(information):
        low = LOWEST["information"]
        facts.append(
            Fact(
                "Information over scans",
                number(float(information[0])),
                f"{number(float(information[-1]))} nat",
                f"lowest {number(float(information.min()))}; alarm below {_limit(low)}",
                "good" if information[-1] >= low else "bad",
            )
        )
    _, rank = run.epoch_series("effective_rank")
    if len(rank):
        end = float(rank[-1])
        facts.append(
            Fact(
                "Effective rank",
                number(float(rank[0])),
                number(end),
                f"warning below {_limit(RANK_WARNING)}, alarm below "
                f"{_limit(LOWEST['effective_rank'])}",
                "good" if end >= RANK_WARNING else _low_rank(end),
            )
        )
    loss = run.step_series("cls")[1]
    if len(loss):
        weight = run.step_series("cls_weight")[1]
        if len(weight) and weight[-1] == 0:
            now = float(loss[-max(int(len(loss) * RECENT), 1) :].mean())
            note = "its weight is still 0: measured, not trained"
            facts.append(Fact("CLS loss", number(float(loss[0])), number(now), note, "unclear"))
        else:
            facts.append(_cls_fact(loss, run.log_prototypes))
    return facts


def _low_rank(value: float) -> State:
    return "unclear" if value >= LOWEST["effective_rank"] else "bad"


def _cls_fact(loss: np.ndarray, log_k: float | None) -> Fact:
    recent = max(int(len(loss) * RECENT), 1)
    first, now = float(loss[:recent].mean()), float(loss[-recent:].mean())
    if log_k is None:
        return Fact("CLS loss", number(first), number(now), "ln K is unknown", "unclear")
    distance = log_k - now
    note = f"ln K = {number(log_k)}, now {number(abs(distance))} "
    note += "below" if distance >= 0 else "above"
    state: State = "bad" if abs(distance) < CLS_MARGIN else "good" if distance > 0 else "unclear"
    return Fact("CLS loss", number(first), number(now), note, state)


def comparisons(probes: Sequence[Probe]) -> list[Comparison]:
    """For every column the trained encoder against the untrained one and the volumes alone."""
    found = []
    for column in dict.fromkeys(p.column for p in probes):
        rows = _one_probe([p for p in probes if p.column == column])
        poolings = dict.fromkeys(p.pooling for p in rows if p.role == "trained")
        answers = [_answer(rows, pooling) for pooling in poolings]
        if answers:
            found.append(Comparison(rows, answers))
    return found


def _one_probe(rows: list[Probe]) -> list[Probe]:
    """The linear probe where there is one, and one metric."""
    kinds = list(dict.fromkeys(p.probe for p in rows))
    kind = next((k for k in kinds if "linear" in k.lower()), kinds[0])
    rows = [p for p in rows if p.probe == kind]
    metrics = list(dict.fromkeys(p.metric for p in rows))
    spelt = {m.lower().replace("_", " "): m for m in metrics}
    metric = next((spelt[m] for m in METRIC_ORDER if m in spelt), metrics[0])
    return [p for p in rows if p.metric == metric]


def _answer(rows: list[Probe], pooling: str) -> Answer:
    """The features pooled this way against the same before training, and against volumes."""
    trained = next(p for p in rows if p.role == "trained" and p.pooling == pooling)
    untrained = next((p for p in rows if p.role == "random" and p.pooling == pooling), None)
    volume = next((p for p in rows if p.role == "volume"), None)
    words = [
        _clause(trained, untrained, UNTRAINED)
        if untrained
        else "there is no untrained encoder to compare with"
    ]
    if volume:
        words.append(_clause(trained, volume, VOLUME))
    name = POOLINGS.get(pooling, trained.features)
    return Answer(
        trained,
        _against(trained, untrained) if untrained else None,
        _against(trained, volume) if volume else None,
        f"{name[:1].upper()}{name[1:]}: {'; '.join(words)}.",
    )


def _clause(trained: Probe, other: Probe, name: str) -> str:
    state = _against(trained, other)
    paired = other.role == "random" and not math.isnan(trained.gain)
    by = f", {gain_text(trained)}" if paired else ""
    if state != "unclear":
        return f"{'better' if state == 'good' else 'worse'} than {name}{by}"
    if paired:
        return f"no clear difference from {name}{by}"
    gain = (other.score - trained.score) if trained.lower_is_better else trained.score - other.score
    direction = "ahead of" if gain > 0 else "level with" if gain == 0 else "behind"
    return f"{direction} {name}, within the uncertainty"


def _against(trained: Probe, other: Probe) -> State:
    """Better or worse only where the interval of the paired gain leaves out 0.

    Where no gain was measured, only where the two intervals do not overlap. NaN never decides.
    """
    if other.role == "random" and not math.isnan(trained.gain):
        above, below = trained.gain_low > 0, trained.gain_high < 0
    else:
        above, below = trained.low > other.high, trained.high < other.low
    if trained.lower_is_better:
        above, below = below, above
    return "good" if above else "bad" if below else "unclear"


def clearly_better(trained: Probe) -> bool:
    """Whether the paired gain over the untrained encoder leaves out 0 on the right side.

    Never of a confound such as the site: knowing it better is no gain.
    """
    if trained.confound:
        return False
    return trained.gain_high < 0 if trained.lower_is_better else trained.gain_low > 0


def probe_lead(found: Sequence[Comparison]) -> list[str]:
    """One sentence per pooling, over all columns."""
    if not found:
        return ["The trained features were not probed."]
    answers = [a for comparison in found for a in comparison.answers if not a.trained.confound]
    if not answers:
        return ["Only confounds were probed, such as the site; they say nothing about people."]
    poolings = dict.fromkeys(answer.trained.pooling for answer in answers)
    return [_lead([a for a in answers if a.trained.pooling == pooling]) for pooling in poolings]


def _lead(answers: Sequence[Answer]) -> str:
    first = answers[0].trained
    name = POOLINGS.get(first.pooling, first.features)
    parts = []
    for words, other, state in (
        (f"better than {UNTRAINED} on", "untrained", "good"),
        (f"worse than {UNTRAINED} on", "untrained", "bad"),
        (f"no clear difference from {UNTRAINED} on", "untrained", "unclear"),
        (f"not compared with {UNTRAINED} on", "untrained", None),
        (f"better than {VOLUME} on", "volume", "good"),
        (f"worse than {VOLUME} on", "volume", "bad"),
        (f"no clear difference from {VOLUME} on", "volume", "unclear"),
    ):
        columns = [a.trained.column for a in answers if getattr(a, other) == state]
        if columns:
            parts.append(f"{words} {_and(columns)}")
    probes = _and(list(dict.fromkeys(a.trained.probe_name for a in answers)))
    return f"{name[:1].upper()}{name[1:]} under the {probes}: {'; '.join(parts)}."


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def limits_of(name: str) -> list[tuple[float, str]]:
    """The alarm limits of a monitor, with words for the figure."""
    found: list[tuple[float, str]] = []
    if name in LOWEST:
        found.append((LOWEST[name], f"alarm below {_limit(LOWEST[name])}"))
    if name in HIGHEST:
        found.append((HIGHEST[name], f"alarm above {_limit(HIGHEST[name])}"))
    return found
