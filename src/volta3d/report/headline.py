"""What stands first: a title in words, and one sentence with its figure for each question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from volta3d.report.answers import NOBODY, UNTOLD, Finding, answers
from volta3d.report.evidence import Absent, CohortFacts
from volta3d.report.figures_cases import NAMES, cases
from volta3d.report.figures_folds import folds, interval_words
from volta3d.report.figures_probes import forest, interval_text
from volta3d.report.runfolder import Run
from volta3d.report.style import number
from volta3d.report.tables_tasks import main_metric
from volta3d.report.task_run import TaskRun
from volta3d.report.verdict import Comparison, State

WORDS: Mapping[State, str] = {"good": "Yes", "bad": "No", "unclear": "Not clear"}


@dataclass(frozen=True)
class Headline:
    """The answer to one question.

    Attributes:
        title: what was asked.
        word: the answer in a word; empty where nothing is compared.
        sentence: the answer with its numbers.
        state: good, bad or unclear.
        figure: the scores behind it.
        caption: how to read the figure.
    """

    title: str
    word: str
    sentence: str
    state: State
    figure: Markup | None
    caption: str


def title(
    runs: Sequence[Run],
    tasks: Sequence[TaskRun],
    probed: Sequence[Comparison],
    facts: CohortFacts | Absent,
    *,
    synthetic: str,
) -> str:
    """The report's heading: the question, whose brains, how many people."""
    if any(_rival(task) for task in tasks) or (runs and probed):
        question = "Does pretraining help?"
    elif runs:
        question = "How did pretraining go?"
    elif all(len(task.arms) < 2 for task in tasks):
        question = f"How well is {tasks[0].target} predicted?"
    else:
        question = "Which arm does better?"
    part = synthetic.startswith("Part")
    kind = "Partly synthetic brains" if part else "Synthetic brains" if synthetic else "Brain scans"
    return f"{question} {kind}, {_people(runs, tasks, facts)}"


def _people(runs: Sequence[Run], tasks: Sequence[TaskRun], facts: CohortFacts | Absent) -> str:
    counted = [int(t.metrics["subjects"]) for t in tasks if t.metrics.get("subjects")]
    counted += [int(t.cases["case"].nunique()) for t in tasks if t.cases is not None]
    if isinstance(facts, CohortFacts):
        counted.append(int(facts.participants["participant_id"].nunique()))
    if counted and (not runs or isinstance(facts, CohortFacts)):
        return f"{number(max(counted))} people"
    scans = [run.scans for run in runs if run.scans]
    return f"{number(sum(scans))} scans" if scans else "no scans known"


def _rival(task: TaskRun) -> str:
    """The arm that is the first one's network without its pretraining; empty without one."""
    declared = task.metrics.get("arms") or task.config.get("arms") or {}
    if not task.arms or not isinstance(declared.get(task.arms[0]), Mapping):
        return ""
    first = declared[task.arms[0]]
    if not first.get("encoder_sha256"):
        return ""
    for arm in task.arms[1:]:
        about = declared.get(arm)
        if not isinstance(about, Mapping) or about.get("encoder_sha256"):
            continue
        if _network(about) == _network(first):
            return arm
    return ""


def _network(declared: Mapping[str, Any]) -> str:
    """What kind of network an arm is."""
    sizes = declared.get("architecture")
    return str(sizes.get("kind") if isinstance(sizes, Mapping) else declared.get("kind"))


def headlines(tasks: Sequence[TaskRun], probed: Sequence[Comparison]) -> list[Headline]:
    """One for each scored run and each probed column."""
    found = [_of_task(task) for task in tasks if task.metrics and len(task.arms) > 1]
    return found + [_of_probe(comparison) for comparison in probed]


def _of_task(task: TaskRun) -> Headline:
    lines = answers([task], [])
    rival = _rival(task)
    main = next((x for x in lines if rival and x.compared.endswith(f" against {rival}")), None)
    main = main or (lines[0] if lines else None)
    first = task.arms[0]
    what, figure, caption = _reached(task)
    shown = [x for x in lines if task.kind != "segmentation" or x.by.endswith(NAMES["dice"])]
    clauses = [_clause(line, first) for line in shown]
    told = f": {'; '.join(clauses)}" if clauses else ""
    question = (
        f"{task.target}: does pretraining help?" if rival else f"{task.target}: is {first} better?"
    )
    state: State = main.state if main else "unclear"
    return Headline(
        _capital(question), WORDS[state], f"{first} reached {what}{told}.", state, figure, caption
    )


def _reached(task: TaskRun) -> tuple[str, Markup | None, str]:
    """The first arm's score in words, and the figure of all arms'."""
    first = task.arms[0]
    if task.kind == "segmentation":
        whole = list(task.metrics["results"][first].values())[-1]
        dice = whole.get("dice") or {}
        row = {"score": dice.get("mean"), "low": dice.get("low"), "high": dice.get("high")}
        words = f"Dice {interval_words(row)} on {number(whole.get('cases'))} scans"
        return words, cases(task, "dice"), "Each dot a scan; bar: median."
    metric = main_metric(task)
    row = task.row(first, metric) or {}
    people = number(task.metrics.get("subjects"))
    figure = folds(task, metric) if metric else None
    note = "Line: 95 % interval over people; small dots: single folds; dashed: guessing."
    return f"{metric} {interval_words(row)} on {people} people", figure, note


def _clause(line: Finding, first: str) -> str:
    other = line.compared.removeprefix(f"{first} against ")
    if line.better == UNTOLD:
        return f"{UNTOLD} with {other}"
    if line.state == "unclear":
        return f"{NOBODY} from {other} ({line.by})"
    return f"{'better' if line.state == 'good' else 'worse'} than {other} ({line.by})"


def _of_probe(comparison: Comparison) -> Headline:
    trained = comparison.answers[0].trained
    states: list[State] = [answer.untrained or "unclear" for answer in comparison.answers]
    sentence = " ".join(answer.sentence for answer in comparison.answers)
    caption = f"{trained.metric_name}, {trained.probe_name} on frozen features; dashed: chance."
    if trained.confound:
        return Headline(
            f"{_capital(trained.column)}: do features know the {trained.column}?",
            "A confound",
            f"Features should not know the {trained.column}: what they know of it, they may take "
            f"for a difference between people. {_told(comparison)}",
            "unclear",
            forest(comparison.rows),
            caption,
        )
    known = set(states) - {"unclear"}
    state: State = next(iter(known)) if len(known) == 1 else "unclear"
    mixed = len(set(states)) > 1 and state != "bad"
    return Headline(
        f"{_capital(trained.column)}: do features know more after training?",
        "In part" if mixed else WORDS[state],
        sentence,
        state,
        forest(comparison.rows),
        caption,
    )


def _told(comparison: Comparison) -> str:
    """How well features tell a confound, trained and untrained ones pooled alike."""
    trained = comparison.answers[0].trained
    words = f"Trained ones tell it with {trained.metric_name} {interval_text(trained)}"
    same = (p for p in comparison.rows if (p.role, p.pooling) == ("random", trained.pooling))
    other = next(same, None)
    return f"{words}, untrained ones with {interval_text(other)}." if other else f"{words}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
