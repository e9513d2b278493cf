"""The grid worked off once, by whoever comes, and gathered from all that was done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from volta3d.grid.gather import complete, records_of, write_metrics
from volta3d.grid.job import Job, jobs_of
from volta3d.grid.work import Notify, work
from volta3d.ledger import Ledger


class Runner:
    """Notes what it is asked to do."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.cleaned: list[str] = []

    def do(self, job: Job, notify: Notify | None = None) -> dict[str, Any]:
        """The record of a job."""
        assert notify is not None
        notify(1, "half")
        self.done.append(job.id)
        return job.keys()

    def clean(self, job: Job) -> None:
        """After it is in the ledger."""
        self.cleaned.append(job.id)


def test_every_job_is_done_once_and_progress_counts_epochs(tmp_path: Path) -> None:
    grid = jobs_of(["a"], seeds=1, fractions=[1.0], folds=2)
    ledger, first, seen = Ledger(tmp_path), Runner(), list[tuple[int, int, str]]()
    assert work(grid, first, ledger, 2, lambda *step: seen.append(step)) == []
    assert first.done == first.cleaned == [job.id for job in grid]
    assert seen[0] == (1, 4, "a/seed=0/fraction=1/fold=0 half") and seen[-1][:2] == (4, 4)
    second = Runner()
    assert work(grid, second, ledger, 2) == [] and second.done == []


def test_what_another_process_holds_is_left_to_it(tmp_path: Path) -> None:
    grid = jobs_of(["a"], seeds=1, fractions=[1.0], folds=2)
    ledger, runner = Ledger(tmp_path), Runner()
    with ledger.claim(grid[0].id):
        assert work(grid, runner, Ledger(tmp_path), 1) == [grid[0].id]
    assert runner.done == [grid[1].id]


def test_jobs_done_before_jobs_had_fractions_are_done(tmp_path: Path) -> None:
    ledger, runner = Ledger(tmp_path), Runner()
    ledger.finish("a/seed=0/fold=0", {"arm": "a", "seed": 0, "fold": 0, "judged_dice": 0.5})
    grid = jobs_of(["a"], seeds=1, fractions=[0.5, 1.0], folds=1)
    assert work(grid, runner, ledger, 1) == [] and runner.done == [grid[0].id]
    records = records_of(ledger, ["a"])
    assert [Job.of(r) for r in records] == [grid[1], grid[0]]  # each once, the whole part first
    assert records[0]["judged_dice"] == 0.5


def test_a_score_over_some_of_the_folds_is_none(tmp_path: Path) -> None:
    records = [Job("a", 0, 1.0, f).keys() for f in (0, 1, -1)] + [Job("a", 1, 0.5, 0).keys()]
    whole, partial = complete(records, 2)
    assert [(r["seed"], r["fold"]) for r in whole] == [(0, 0), (0, 1)]
    assert partial == ["a, fraction 0.5, seed 1"]


def test_metrics_are_one_line_a_record(tmp_path: Path) -> None:
    write_metrics(tmp_path, "a", [{"epoch": 1}, {"epoch": 2}])
    lines = (tmp_path / "arms/a/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
