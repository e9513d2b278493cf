"""A study as jobs: what is to be made, in an order in which nothing comes before what it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from volta3d.config import StudyConfig
from volta3d.files import content_hash

KINDS = ("cohort", "encoder", "features", "task")


@dataclass(frozen=True)
class Job:
    """One thing to make.

    Attributes:
        kind: one of `KINDS`.
        name: of the cohort, encoder or task.
        needs: the ids of the jobs whose results it reads.
        hash: of its settings and of everything it needs; another hash is another job.
    """

    kind: str
    name: str
    needs: tuple[str, ...]
    hash: str

    @property
    def id(self) -> str:
        """Its name in the ledger, e.g. ``encoder/volta``."""
        return f"{self.kind}/{self.name}"


def plan(config: StudyConfig) -> list[Job]:
    """All jobs of a study; each comes after those it needs.

    Raises:
        ValueError: parts of cohorts, or encoders that are like one another, go round in a circle.
    """
    jobs: dict[str, Job] = {}

    def add(kind: str, name: str, settings: Any, needs: tuple[str, ...]) -> None:
        inputs = [jobs[need].hash for need in needs]
        job = Job(kind, name, needs, content_hash([kind, config.seed, settings, inputs]))
        jobs[job.id] = job

    for name in _wholes_first(config):
        entry = config.cohorts[name]
        needs: tuple[str, ...] = (f"cohort/{entry.part_of}",) if entry.part_of else ()
        add("cohort", name, _without(entry.content(), "workers"), needs)
    for name, encoder in config.encoders.items():
        cohorts, excluded = config.cohorts_of(name), config.excluded_by(name)
        settings = [config.preset_of(name), config.settings_of(name), encoder.encoder, excluded]
        add("encoder", name, settings, tuple(f"cohort/{c}" for c in (*cohorts, *excluded)))
        if cohorts:
            needs = (f"encoder/{name}", f"cohort/{cohorts[0]}")
            add("features", name, list(config.probes), needs)
    for name, task in config.tasks.items():
        used = [f"encoder/{e}" for e in config.encoders_of(name)]
        add("task", name, _task(task.content()), (f"cohort/{task.cohort}", *used))
    return list(jobs.values())


def _wholes_first(config: StudyConfig) -> list[str]:
    order: list[str] = []
    left = list(config.cohorts)
    while left:
        ready = [n for n in left if config.cohorts[n].part_of in ("", *order)]
        if not ready:
            raise ValueError(f"cohorts.{left[0]}.part_of goes round in a circle")
        order += ready
        left = [n for n in left if n not in ready]
    return order


def _task(content: dict[str, Any]) -> dict[str, Any]:
    """What makes a task's job: how its table is printed does not, nor what it lacks."""
    for key in ("table", "figure", "threshold", "published"):
        content = _without(content, key)
    return content if content["reference"] else _without(content, "reference")


def _without(content: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in content.items() if k != key}
