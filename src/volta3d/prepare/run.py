"""``prepare``: raw scans in, a cohort out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from volta3d.cohort.contract import Contract
from volta3d.config import PrepareConfig
from volta3d.prepare.assemble import read_records
from volta3d.prepare.extras import require_extras
from volta3d.prepare.finish import PrepareResult, finish
from volta3d.prepare.gather import gather, sign
from volta3d.prepare.learn import landmarks_of
from volta3d.prepare.nyul import learn
from volta3d.prepare.parallel import outcomes
from volta3d.prepare.prepared_scan import Outcome
from volta3d.prepare.privacy import open_pseudonymiser, without_names
from volta3d.prepare.scan import Scan
from volta3d.prepare.workspace import WORK, Workspace, known_landmarks, workspace

Progress = Callable[[int, int], None]


def prepare(
    sources: Sequence[Path | str],
    out: Path | str,
    *,
    layout: str | None = None,
    table: Path | None = None,
    workers: int = 1,
    dask: str = "",
    pseudonyms: Path | str | None = None,
    config: PrepareConfig = PrepareConfig(),  # noqa: B008 - frozen
    progress: Progress | None = None,
) -> PrepareResult:
    """Prepare raw scans into a cohort.

    A scan that cannot be prepared goes to ``quarantine.tsv`` and the others go on. Killed at any
    time, no cohort that opens is left; the same call again does only what is missing. Called again
    with more sources, the cohort then holds exactly the scans of the last call.

    Args:
        sources: folders or files.
        out: the cohort's folder, new or of an earlier call.
        layout: of all sources, or None to detect it for each.
        table: what is known about the subjects or files of all sources, see ``layouts``.
        workers: processes.
        dask: address of a Dask scheduler, e.g. ``tcp://host:8786``, whose workers prepare instead;
            they must share the file systems of the sources and of ``out``.
        pseudonyms: a file with a key (made if missing, outside ``out``): names of people, sessions,
            data sets and files then leave only as keyed hashes, see ``privacy``.
        config: how to prepare.
        progress: called with (done, total).

    Raises:
        UsageError: an unknown layout, a key inside ``out``, or something that ``config`` asks for
            is not installed.
        ConfigError: ``landmarks_from`` holds no landmarks, or ``pseudonyms`` no key.
        CohortError: a source is missing or without a T1w scan, nothing could be prepared, or
            ``out`` holds something else.
        VoltaError: ``out`` cannot be written, or the cluster cannot be used.
    """
    if dask:  # its workers stand in other folders
        out, sources = Path(out).absolute(), [Path(source).absolute() for source in sources]
    out = Path(out)
    require_extras(config)
    pseudonymiser = open_pseudonymiser(Path(pseudonyms), out, sources) if pseudonyms else None
    staff = Workers(workers, dask, progress)
    with without_names(pseudonymiser):
        scans, refused = gather(sources, layout, table)
        if pseudonymiser is not None:
            scans = pseudonymiser.scans(scans)
        contract = sign(scans, config, known_landmarks(out, config))
        with workspace(out, contract) as work:
            contract = _with_landmarks(scans, contract, work, staff)
            done = _prepare_all(scans, contract, work, staff)
            return finish(work, done, refused, contract, pseudonymiser)


@dataclass(frozen=True)
class Workers:
    """Who does the work, and who hears of it."""

    count: int
    dask: str
    progress: Progress | None

    def report(self, done: int, total: int) -> None:
        """Report progress."""
        if self.progress is not None:
            self.progress(done, total)


def _with_landmarks(
    scans: Sequence[Scan], contract: Contract, work: Workspace, workers: Workers
) -> Contract:
    """The contract with its standard of nyul, which a first pass over all scans learns."""
    if contract.scaling != "nyul" or contract.landmarks:
        return contract
    folder = work.folder("landmarks")
    found: dict[int, np.ndarray] = {}
    passed = landmarks_of(scans, contract, folder, workers=workers.count, dask=workers.dask)
    for done, (index, own) in enumerate(passed, start=1):
        workers.report(done, 2 * len(scans))
        if own is not None:
            found[index] = own
    # in the order of the scans, whoever finished first: the same sum on any number of workers
    standard = learn(found[index] for index in sorted(found)) if found else ()
    return contract.model_copy(update={"landmarks": standard})


def _prepare_all(
    scans: Sequence[Scan], contract: Contract, work: Workspace, workers: Workers
) -> list[tuple[Scan, Outcome]]:
    """Every scan, and what became of it."""
    pieces, old = work.folder("pieces"), work.old
    known = frozenset(r["key"] for r in read_records(old)) if old else frozenset()
    before = len(scans) if (work.out / WORK / "landmarks").is_dir() else 0  # of a first pass
    done: dict[int, Outcome] = {}
    for index, outcome in outcomes(
        scans, contract, pieces, workers=workers.count, dask=workers.dask, known=known
    ):
        done[index] = outcome
        workers.report(before + len(done), before + len(scans))
    return [(scan, done[index]) for index, scan in enumerate(scans)]
