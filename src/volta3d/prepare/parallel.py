"""Scans in parallel processes, of which any may die without taking the batch with it."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import joblib
from joblib.externals.loky.process_executor import BrokenProcessPool

from volta3d.cohort.contract import Contract
from volta3d.prepare.cluster import connect, on_cluster
from volta3d.prepare.findings import Finding
from volta3d.prepare.prepared_scan import Outcome, make_prepared_scan
from volta3d.prepare.scan import Scan
from volta3d.prepare.task import Make, Task

DIED = Finding(
    "error",
    "worker-died",
    "The process that prepared this scan was ended by the system, most likely for want of memory",
    "Prepare it with --workers 1 on a machine with more memory, or check the file",
)


def outcomes(
    scans: Sequence[Scan],
    contract: Contract,
    pieces: Path,
    *,
    workers: int = 1,
    dask: str = "",
    known: Container[str] = frozenset(),
    make: Make = make_prepared_scan,
) -> Iterator[tuple[int, Outcome]]:
    """Prepare scans into ``pieces``; yield (index, outcome) as they finish, in any order.

    When a process dies, the scans that were being worked on are tried again one at a time: one
    that kills its process alone is quarantined, the rest go on in parallel.

    Args:
        scans: what to prepare.
        contract: how.
        pieces: where results go.
        workers: processes on this machine.
        dask: address of a Dask scheduler whose workers do it instead.
        known: keys of pieces that exist elsewhere.
        make: what to do with each scan.

    Raises:
        VoltaError: a piece cannot be written, or the cluster fails.
    """
    tasks = {i: Task(make, scan, contract, pieces, known) for i, scan in enumerate(scans)}
    if dask:
        with connect(dask) if tasks else nullcontext() as client:
            yield from on_cluster(client, tasks)
    elif workers <= 1:
        yield from ((i, task()) for i, task in tasks.items())
    else:
        yield from _on_processes(tasks, pieces.parent / "busy", workers)


def _on_processes(left: dict[int, Task], busy: Path, workers: int) -> Iterator[tuple[int, Outcome]]:
    busy.mkdir(parents=True, exist_ok=True)
    while left:
        for marker in busy.iterdir():
            marker.unlink()
        try:
            for index, outcome in _together(left, busy, workers):
                del left[index]
                yield index, outcome
        except BrokenProcessPool:
            suspects = [i for i in map(int, (m.name for m in busy.iterdir())) if i in left]
            for index in sorted(suspects) or sorted(left)[:1]:
                alone = {index: left.pop(index)}
                try:
                    yield from _together(alone, busy, 2)
                except BrokenProcessPool:
                    yield index, Outcome(refused=DIED)


def _together(tasks: dict[int, Task], busy: Path, workers: int) -> Iterator[tuple[int, Outcome]]:
    parallel = joblib.Parallel(n_jobs=workers, backend="loky", return_as="generator_unordered")
    marked = joblib.delayed(_marked)
    yield from parallel(marked(busy / str(i), task) for i, task in list(tasks.items()))


def _marked(marker: Path, task: Task) -> tuple[int, Outcome]:
    """Leave a marker while working, so that it is known what a dead process was doing."""
    marker.touch()
    outcome = task()
    marker.unlink(missing_ok=True)
    return int(marker.name), outcome
