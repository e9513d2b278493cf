"""``study``: every job once, in any order, by any number of processes, killable anywhere."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from volta3d.config import load_study
from volta3d.errors import ConfigError, UsageError, VoltaError
from volta3d.files import write_text
from volta3d.ledger import Ledger
from volta3d.progress import duration
from volta3d.study.jobs import Place, do
from volta3d.study.plan import Job, plan
from volta3d.study.summary import summarise

WAIT = 2.0  # seconds between looks at what other processes are doing

Say = Callable[[str], None]


@dataclass(frozen=True)
class StudyResult:
    """What a call of ``study`` came to.

    Attributes:
        out: the study's folder.
        report: index.html of its report; None while jobs are left.
        failed: job id to the reason, for jobs that could not be done.
        found: alarms, quarantined scans and other things worth a look.
    """

    out: Path
    report: Path | None
    failed: dict[str, str] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)


def study(
    study: Path | str,
    out: Path | str,
    *,
    sources: dict[str, str] | None = None,
    scale: str = "",
    say: Say = print,
) -> StudyResult:
    """Do the jobs of a study that are not done yet, then write its tables and report.

    The same call again goes on where an earlier one was stopped, however it was stopped. Several
    processes, also on several machines with a shared file system, may run the same call at once:
    each takes jobs that nobody holds.

    Args:
        study: a YAML file, or the name of a study that ships with the package.
        out: the study's folder.
        sources: cohort name to a folder of scans, instead of what the study names.
        scale: one of the study's own scales, e.g. ``tiny``: the same with smaller budgets.
        say: called with one line for each thing a person wants to know.

    Raises:
        ConfigError: the study contradicts itself.
        UsageError: ``out`` holds results of another study.
        VoltaError: ``out`` cannot be written.
    """
    config = load_study(study, sources, scale)
    try:
        jobs = plan(config)
    except ValueError as error:
        raise ConfigError(str(error), where=study, fix="Correct the study") from error
    out = Path(out)
    ledger = Ledger(out / "ledger")
    refuse_another(ledger, jobs, out)
    if not (out / "study.yaml").exists():
        write_text(out / "study.yaml", config.to_yaml())
    place = Place(out, config)
    failed = work(jobs, place, ledger, say)
    records = {job.id: ledger.record(job.id) or {} for job in jobs}
    found = [f"{name}: {note}" for name, r in records.items() for note in r.get("found", [])]
    if ledger.left([job.id for job in jobs]):
        return StudyResult(out, None, failed, found)
    say("tables and report")
    given = "".join(f" --source {name}={folder}" for name, folder in (sources or {}).items())
    given = (f" --scale {scale}" if scale else "") + given
    command = f"volta3d study {Path(study).name} --out {out.name}{given}"
    return StudyResult(out, summarise(place, records, command), failed, found)


def refuse_another(ledger: Ledger, jobs: list[Job], out: Path) -> None:
    """Refuse a folder whose finished jobs had other settings than those planned now.

    Raises:
        UsageError: names the first of them.
    """
    for job in jobs:
        record = ledger.record(job.id)
        if record is not None and record.get("hash") != job.hash:
            raise UsageError(
                f"'{job.id}' was done with other settings than the study has now",
                where=out,
                fix="Choose another --out, or put the study back as it was",
            )


def work(jobs: list[Job], place: Place, ledger: Ledger, say: Say) -> dict[str, str]:
    """Do what can be done until nothing is left but what failed, and what needs it.

    Returns:
        Job id to reason, for the jobs that failed here.
    """
    failed: dict[str, str] = {}
    while True:
        left = ledger.left([job.id for job in jobs])
        open_jobs = [job for job in jobs if job.id in left and not _hopeless(job, jobs, failed)]
        if not open_jobs:
            return failed
        ready = [job for job in open_jobs if not any(need in left for need in job.needs)]
        if not any(_try(job, jobs, place, ledger, failed, say) for job in ready):
            time.sleep(WAIT)  # another process holds them all


def _hopeless(job: Job, jobs: list[Job], failed: dict[str, str]) -> bool:
    """Whether a job failed here, or needs one that did."""
    by_id = {j.id: j for j in jobs}
    return job.id in failed or any(_hopeless(by_id[n], jobs, failed) for n in job.needs)


def _try(
    job: Job, jobs: list[Job], place: Place, ledger: Ledger, failed: dict[str, str], say: Say
) -> bool:
    """Do a job if nobody else holds it; whether it was tried."""
    with ledger.claim(job.id) as mine:
        if not mine:
            return False
        say(f"{job.id}  ({time_left(jobs, ledger)})")
        started = time.monotonic()
        try:
            record = do(job, place)
        except VoltaError as error:
            failed[job.id] = error.paragraph()
            say(f"{job.id} failed: {error.paragraph()}")
            return True
        record |= {"hash": job.hash, "seconds": round(time.monotonic() - started, 1)}
        ledger.finish(job.id, json.loads(json.dumps(record, default=str)))
        return True


def time_left(jobs: list[Job], ledger: Ledger) -> str:
    """How many jobs are done, and the time the others need if they take as long as their like."""
    records: dict[str, dict[str, Any]] = {
        job.id: found for job in jobs if (found := ledger.record(job.id)) is not None
    }
    done = f"{len(records)} of {len(jobs)} jobs done"
    seconds = 0.0
    for job in jobs:
        if job.id in records:
            continue
        like = [
            float(r["seconds"])
            for other in jobs
            if other.kind == job.kind and (r := records.get(other.id)) and "seconds" in r
        ]
        if not like:
            return done
        seconds += sum(like) / len(like)
    return f"{done}, about {duration(seconds)} left"
