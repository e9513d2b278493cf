"""The first pass of histogram standardisation: every scan says where its landmarks lie."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from pathlib import Path

import numpy as np

from volta3d.cohort.contract import Contract
from volta3d.files import content_hash, read_json, sha256, write_json
from volta3d.prepare.brainmask import find_mask
from volta3d.prepare.parallel import outcomes
from volta3d.prepare.prepared_scan import CONVERTED, Outcome, attempt
from volta3d.prepare.scan import Scan
from volta3d.prepare.source import as_nifti, source_sha256
from volta3d.prepare.volume import own_landmarks


def landmarks_of(
    scans: Sequence[Scan], contract: Contract, folder: Path, *, workers: int = 1, dask: str = ""
) -> Iterator[tuple[int, np.ndarray | None]]:
    """Yield (index, landmarks [11]) of scans as they finish, in any order; None of a refused one.

    What a scan said is kept in ``folder``, so that a run that was stopped goes on.

    Raises:
        VoltaError: a result cannot be written, or the cluster fails.
    """
    for index, outcome in outcomes(
        scans, contract, folder, workers=workers, dask=dask, make=measure
    ):
        told = outcome.refused is None
        yield index, np.array(read_json(folder / outcome.key)) if told else None


def measure(
    scan: Scan, contract: Contract, folder: Path, known: Container[str] = frozenset()
) -> Outcome:
    """Write a scan's own landmarks to ``folder``, unless they are there; failing is an outcome.

    Raises:
        VoltaError: they cannot be written.
    """
    found: np.ndarray | None = None

    def work() -> Outcome:
        nonlocal found
        digest = source_sha256(scan)
        mask = find_mask(scan.source) if contract.skull_strip == "mask" else None
        key = content_hash([digest, sha256(mask) if mask else "", contract.preparation()])
        if key not in known and not (folder / key).is_file():
            with as_nifti(scan, folder.parent / CONVERTED) as (nifti, _):
                found = own_landmarks(nifti, contract)
        return Outcome(key, digest, fresh=found is not None)

    outcome = attempt(work)
    if found is not None:
        write_json(folder / outcome.key, found.tolist())
    return outcome
