"""The engine: each job once, failures hold up only what needs them, another study is refused."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any

import pytest

from volta3d.config import StudyConfig, build
from volta3d.errors import UsageError, VoltaError
from volta3d.ledger import Ledger
from volta3d.study import run
from volta3d.study.jobs import Place
from volta3d.study.plan import Job, plan

CONFIG = build(
    StudyConfig,
    {
        "cohorts": {
            "all": {"phantom": {"subjects": 8}},
            "half": {"part_of": "all", "share": [0.0, 0.5]},
            "other": {"phantom": {"subjects": 4}},
        },
        "encoders": {"volta": {"cohorts": ["half"]}},
    },
)


def note(job: Job, place: Place) -> dict[str, Any]:
    """Stands in for the stages: writes one line per call."""
    with (place.out / "calls.txt").open("a", encoding="utf-8") as file:
        file.write(job.id + "\n")
    return {}


def calls(out: Path) -> list[str]:
    return (out / "calls.txt").read_text(encoding="utf-8").split()


def silent(_: str) -> None:
    """Says nothing."""


def test_each_job_once_and_nothing_on_a_second_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "do", note)
    jobs, ledger = plan(CONFIG), Ledger(tmp_path / "ledger")
    for _ in range(2):
        assert run.work(jobs, Place(tmp_path, CONFIG), ledger, silent) == {}
    assert sorted(calls(tmp_path)) == sorted(job.id for job in jobs)
    order = calls(tmp_path)
    for job in jobs:
        assert all(order.index(need) < order.index(job.id) for need in job.needs)


def test_a_failure_holds_up_only_what_needs_it_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {"cohort/half"}

    def sometimes(job: Job, place: Place) -> dict[str, Any]:
        if job.id in broken:
            raise VoltaError("It broke", where="half", fix="Mend it")
        return note(job, place)

    monkeypatch.setattr(run, "do", sometimes)
    jobs, ledger = plan(CONFIG), Ledger(tmp_path / "ledger")
    failed = run.work(jobs, Place(tmp_path, CONFIG), ledger, silent)
    assert list(failed) == ["cohort/half"] and "Mend it" in failed["cohort/half"]
    assert sorted(calls(tmp_path)) == ["cohort/all", "cohort/other"]
    broken.clear()
    assert run.work(jobs, Place(tmp_path, CONFIG), ledger, silent) == {}
    assert sorted(calls(tmp_path)) == sorted(job.id for job in jobs)


def _slow(out: Path) -> None:
    def slow(job: Job, place: Place) -> dict[str, Any]:
        time.sleep(0.2)
        return note(job, place)

    run.do, run.WAIT = slow, 0.05  # type: ignore[assignment, misc]
    run.work(plan(CONFIG), Place(out, CONFIG), Ledger(out / "ledger"), silent)


def test_two_processes_share_the_jobs_and_do_none_twice(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_slow, args=(tmp_path,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    assert sorted(calls(tmp_path)) == sorted(job.id for job in plan(CONFIG))


def test_results_of_another_study_are_not_mixed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "do", note)
    ledger = Ledger(tmp_path / "ledger")
    run.work(plan(CONFIG), Place(tmp_path, CONFIG), ledger, silent)
    other = CONFIG.model_copy(update={"seed": 1})
    with pytest.raises(UsageError, match="other settings"):
        run.refuse_another(ledger, plan(other), tmp_path)
    run.refuse_another(ledger, plan(CONFIG), tmp_path)


def test_time_left_is_told_once_something_like_it_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "do", note)
    jobs, ledger = plan(CONFIG), Ledger(tmp_path / "ledger")
    assert run.time_left(jobs, ledger) == f"0 of {len(jobs)} jobs done"
    for job in jobs:
        if job.id != "cohort/other":
            ledger.finish(job.id, {"seconds": 90.0, "hash": job.hash})
    assert "about 1 min left" in run.time_left(jobs, ledger)
