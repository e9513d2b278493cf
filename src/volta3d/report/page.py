"""``report``: runs in, one folder out that opens from disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from volta3d import __version__
from volta3d.errors import UsageError, VoltaError
from volta3d.files import atomic_folder
from volta3d.report import sections_shared as shared
from volta3d.report.answers import alone, answers
from volta3d.report.blocks import Group, Section
from volta3d.report.evidence import (
    Absent,
    CohortFacts,
    Probe,
    read_cohort,
    read_embeddings,
    read_probes,
)
from volta3d.report.headline import headlines, title
from volta3d.report.html import render
from volta3d.report.runfolder import Run, read_run
from volta3d.report.sections_run import run_group
from volta3d.report.sections_tasks import own_cohort, task_group
from volta3d.report.style import number
from volta3d.report.task_run import TaskRun, read_task
from volta3d.report.verdict import comparisons, health, probe_lead

PAGE = "index.html"
GENERATOR = "volta3d report"


def report(
    runs: Sequence[Path],
    out: Path,
    *,
    embeddings: Path | None = None,
    probes: Path | None = None,
    cohort: Path | Sequence[Path] | None = None,
) -> Path:
    """Show runs in one folder that opens in a browser from disk and fetches nothing.

    Pieces that are missing, half-written or damaged become plain sentences. A run may still be
    going on.

    Args:
        runs: folders of ``pretrain``, ``classify`` and ``segment``; of several pretraining runs
            the first stands in the headline.
        out: the folder to make; an earlier report there is replaced, anything else is refused.
        embeddings: a table that ``embed`` wrote.
        probes: a table that ``probe`` wrote.
        cohort: the prepared cohort, for its quarantine, findings and participants; of several the
            first is shown so, and label maps are drawn over the scans of the one they belong to.

    Returns:
        The path of ``index.html``.

    Raises:
        UsageError: no run named, or an output folder that holds something else.
        VoltaError: a path that does not exist.
        VoltaError: the folder cannot be written.
    """
    runs, out = [Path(run) for run in runs], Path(out)
    cohorts = [cohort] if isinstance(cohort, Path | str) else list(cohort or ())
    given = [("--embeddings", embeddings), ("--probes", probes)]
    _check(runs, out, [*given, *(("--cohort", path) for path in cohorts)])
    found = {run: read_task(run) for run in runs}
    tasks = [task for task in found.values() if task is not None]
    read = [read_run(run) for run, task in found.items() if task is None]
    scores, facts = read_probes(probes), read_cohort(cohorts[0] if cohorts else None)
    with atomic_folder(out) as folder:
        groups = [
            run_group(run, i, folder / "images", titled=len(runs) > 1, probes=scores)
            for i, run in enumerate(read, start=1)
        ]
        groups = [
            *(
                task_group(task, i, folder, own_cohort(task, cohorts))
                for i, task in enumerate(tasks, start=1)
            ),
            *groups,
        ]
        first, last = _shared(read, tasks, facts, scores, embeddings, probes)
        content = _content(read, tasks, facts, scores)
        content["groups"] = [first, *groups, last]
        (folder / PAGE).write_text(render(content), encoding="utf-8")
    return out / PAGE


def _check(runs: Sequence[Path], out: Path, given: Sequence[tuple[str, Path | None]]) -> None:
    if not runs:
        raise UsageError("No run was named", fix="Name at least one run folder")
    for run in runs:
        if not run.is_dir():
            raise VoltaError("No run folder there", where=run, fix="Check the path")
    for option, path in given:
        if path is not None and not Path(path).exists():
            raise VoltaError(f"Nothing there for {option}", where=path, fix="Check the path")
    if out.exists() and not out.is_dir():
        raise UsageError("The output is a file, not a folder", where=out, fix="Rename --out")
    if out.is_dir() and any(out.iterdir()) and not _is_report(out):
        raise UsageError(
            "The output folder holds something that is not a report",
            where=out,
            fix="Choose a new or empty folder for --out",
        )


def _is_report(folder: Path) -> bool:
    try:
        with (folder / PAGE).open(encoding="utf-8", errors="replace") as file:
            return f'name="generator" content="{GENERATOR}' in file.read(2000)
    except OSError:
        return False


def _shared(
    runs: list[Run],
    tasks: list[TaskRun],
    facts: CohortFacts | Absent,
    scores: list[Probe] | Absent,
    embeddings: Path | None,
    probes: Path | None,
) -> tuple[Group, Group]:
    before: list[Section | None] = [
        shared.failures(runs, facts, tasks, scores),
        shared.comparison(runs),
    ]
    after: list[Section | None] = [
        shared.embedding_map(read_embeddings(embeddings)) if runs or embeddings else None,
        shared.probes(scores) if runs or probes else None,
        shared.data(facts),
        shared.configuration(runs) if runs else None,
        shared.methods_section(runs, facts, tasks, probed=not isinstance(scores, Absent)),
        shared.origins(runs, facts, {"probe table": probes, "embedding table": embeddings}, tasks),
    ]
    return (
        Group("first", "", [s for s in before if s is not None]),
        Group("last", "", [s for s in after if s is not None]),
    )


def _content(
    runs: list[Run], tasks: list[TaskRun], facts: CohortFacts | Absent, scores: list[Probe] | Absent
) -> dict[str, Any]:
    found = [] if isinstance(scores, Absent) else comparisons(scores)
    several = len(runs) + len(tasks) > 1
    synthetic = _synthetic(runs, tasks, facts)
    unprobed = [scores.sentence] if isinstance(scores, Absent) else probe_lead(found)
    return {
        "title": title(runs, tasks, found, facts, synthetic=synthetic),
        "generator": f"{GENERATOR} {__version__}",
        "status": [
            *(_task_status(task) for task in tasks),
            *(_status(run) for run in runs),
        ],
        "synthetic": synthetic,
        "headlines": headlines(tasks, found),
        "findings": answers(tasks, found),
        "alone": alone(tasks),
        "health": health(runs[0]) if runs else None,
        "health_of": runs[0].name if runs and several else "",
        "unprobed": unprobed if runs and not found else [],
    }


def _task_status(task: TaskRun) -> str:
    parts = [f"{task.name}: {task.kind} of {task.target}"]
    if task.metrics.get("subjects"):
        parts.append(f"{number(task.metrics['subjects'])} participants")
    elif task.cases is not None:
        parts.append(f"{number(int(task.cases['case'].nunique()))} cases")
    parts.append(f"arms {', '.join(task.arms)}" if task.arms else "not scored yet")
    return " · ".join(parts)


def _status(run: Run) -> str:
    planned = run.planned_steps
    of = f" of {number(planned)}" if planned else ""
    state = "finished" if run.finished else "still running, or stopped"
    parts = [
        f"{run.name}: {state}",
        f"{number(run.last_step)}{of} optimiser steps",
    ]
    if run.config:
        parts.append(f"preset {run.config.preset}")
    if run.scans:
        parts.append(f"{number(run.scans)} scans")
    hours = _hours(run)
    if hours:
        parts.append(hours)
    return " · ".join(parts)


def _hours(run: Run) -> str:
    """Time spent in optimiser steps, from the logged rate."""
    if run.config is None or "scans_per_second" not in run.steps:
        return ""
    rate = run.steps["scans_per_second"]
    scans = run.config.batch_size * run.config.accumulate
    seconds = float((scans / rate[rate > 0]).sum())
    if seconds < 90:
        return f"{seconds:.0f} s of training"
    minutes = round(seconds / 60)
    return f"{minutes} min of training" if minutes < 120 else f"{minutes / 60:.1f} h of training"


def _synthetic(runs: list[Run], tasks: list[TaskRun], facts: CohortFacts | Absent) -> str:
    """The banner's text; empty when no data is known to be synthetic."""
    named = dict.fromkeys(name for run in runs for name in run.synthetic)
    real = [c for run in runs for c in run.cohorts if c.get("synthetic") is not True]
    for task in tasks:
        if task.synthetic:
            named[f"the scans of {task.name}"] = None
        else:
            real.append({"path": task.name})
    if isinstance(facts, CohortFacts):
        if facts.synthetic:
            named[facts.name] = None
        else:
            real.append({"path": facts.name})
    if not named:
        return ""
    if real:
        return f"Part of the data is synthetic, made by a program: {', '.join(named)}."
    return (
        "Synthetic data: these brains were made by a program. Nothing here says how the method "
        "does on people."
    )
