"""The grid worked off: each job once, by any number of processes, killable anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from volta3d.grid.job import Job
from volta3d.ledger import Ledger

Progress = Callable[[int, int, str], None]
Notify = Callable[[int, str], None]


class FoldRunner(Protocol):
    """Does the jobs of a task."""

    def do(self, job: Job, notify: Notify | None = None) -> dict[str, Any]:
        """Fit, predict, and return the record that the ledger keeps.

        Args:
            job: which.
            notify: called with the epochs done and a word on how it goes.
        """
        ...

    def clean(self, job: Job) -> None:
        """Remove what only an unfinished job needs."""
        ...


def work(
    jobs: Sequence[Job],
    runner: FoldRunner,
    ledger: Ledger,
    epochs: int,
    progress: Progress | None = None,
) -> list[str]:
    """Do every job that nobody does or has done; those that other processes are still doing.

    Args:
        jobs: the grid.
        runner: does them.
        ledger: of the run folder.
        epochs: of each job.
        progress: called with (epochs done, of how many, what is being done).
    """
    _adopt(jobs, ledger)
    for number, job in enumerate(jobs):

        def notify(done: int, text: str = "", number: int = number, name: str = job.id) -> None:
            if progress is not None:
                progress(epochs * number + done, epochs * len(jobs), f"{name} {text}".rstrip())

        with ledger.claim(job.id) as mine:
            if mine:
                ledger.finish(job.id, runner.do(job, notify))
                runner.clean(job)
        notify(epochs)
    return ledger.left([job.id for job in jobs])


def _adopt(jobs: Sequence[Job], ledger: Ledger) -> None:
    """Jobs that were done before jobs had fractions are done."""
    for job in jobs:
        if job.earlier_id and ledger.record(job.id) is None:
            record = ledger.record(job.earlier_id)
            if record is not None:
                ledger.finish(job.id, {**record, "fraction": 1.0})
