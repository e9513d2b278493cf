"""Scans in parallel processes, of which any may die without taking the batch with it."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path

import joblib
from joblib.externals.loky.process_executor import BrokenProcessPool

from volta3d.cohort.contract import Contract
from volta3d.prepare.findings import Finding
from volta3d.prepare.piece import Outcome, make_piece
from volta3d.prepare.scan import Scan

Make = Callable[[Scan, Contract, Path, Container[str]], Outcome]
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
    known: Container[str] = frozenset(),
    make: Make = make_piece,
) -> Iterator[tuple[int, Outcome]]:
    """Prepare scans into ``pieces``; yield (index, outcome) as they finish, in any order.

    When a process dies, the scans that were being worked on are tried again one at a time: one
    that kills its process alone is quarantined, the rest go on in parallel.

    Raises:
        VoltaError: a piece cannot be written.
    """
    if workers <= 1:
        yield from ((i, make(scan, contract, pieces, known)) for i, scan in enumerate(scans))
        return
    busy = pieces.parent / "busy"
    busy.mkdir(parents=True, exist_ok=True)
    left = dict(enumerate(scans))
    while left:
        for marker in busy.iterdir():
            marker.unlink()
        try:
            for index, outcome in _together(left, contract, pieces, busy, workers, known, make):
                del left[index]
                yield index, outcome
        except BrokenProcessPool:
            suspects = [i for i in map(int, (m.name for m in busy.iterdir())) if i in left]
            for index in sorted(suspects) or sorted(left)[:1]:
                alone = {index: left.pop(index)}
                try:
                    yield from _together(alone, contract, pieces, busy, 2, known, make)
                except BrokenProcessPool:
                    yield index, Outcome(refused=DIED)


def _together(
    scans: dict[int, Scan],
    contract: Contract,
    pieces: Path,
    busy: Path,
    workers: int,
    known: Container[str],
    make: Make,
) -> Iterator[tuple[int, Outcome]]:
    parallel = joblib.Parallel(n_jobs=workers, backend="loky", return_as="generator_unordered")
    task = joblib.delayed(_marked)
    yield from parallel(
        task(busy / str(index), make, scan, contract, pieces, known)
        for index, scan in list(scans.items())
    )


def _marked(
    marker: Path, make: Make, scan: Scan, contract: Contract, pieces: Path, known: Container[str]
) -> tuple[int, Outcome]:
    """Leave a marker while working, so that it is known what a dead process was doing."""
    marker.touch()
    outcome = make(scan, contract, pieces, known)
    marker.unlink(missing_ok=True)
    return int(marker.name), outcome
