"""The output folder while a cohort is prepared into it: one run at a time, nothing half-made."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import CONTRACT, Cohort, read_contract
from volta3d.config import PrepareConfig
from volta3d.errors import CohortError
from volta3d.files import clean_partial, require_writable
from volta3d.prepare.lock import locked
from volta3d.prepare.nyul import read_landmarks

WORK = ".work"


@dataclass(frozen=True)
class Workspace:
    """Where a run works.

    Args:
        out: the cohort's folder.
        old: the cohort of an earlier run that is there, None without one.
    """

    out: Path
    old: Cohort | None

    def folder(self, name: str) -> Path:
        """A folder for results that outlive a killed run, without what it left half-written."""
        folder = self.out / WORK / name
        folder.mkdir(exist_ok=True)
        clean_partial(folder)
        return folder


@contextmanager
def workspace(out: Path, contract: Contract) -> Iterator[Workspace]:
    """Hold the output folder of one run; what it worked on is deleted when it ends well.

    Raises:
        CohortError: it holds something else, or a cohort prepared differently, or another run
            works on it.
        VoltaError: it cannot be written.
    """
    old = _existing(out, contract)
    require_writable(out)
    with locked(out / WORK):
        clean_partial(out)
        clean_partial(out / WORK)
        try:
            yield Workspace(out, old)
        except CohortError:
            shutil.rmtree(out / WORK, ignore_errors=True)
            with contextlib.suppress(OSError):  # it stays when it holds an earlier cohort
                out.rmdir()
            raise
        shutil.rmtree(out / WORK, ignore_errors=True)


def known_landmarks(out: Path, config: PrepareConfig) -> tuple[float, ...]:
    """The standard of nyul that is given, or that the cohort there was made with; else empty."""
    if config.scaling != "nyul":
        return ()
    if config.landmarks_from:
        return read_landmarks(Path(config.landmarks_from))
    return read_contract(out).landmarks if (out / CONTRACT).is_file() else ()


def _existing(out: Path, contract: Contract) -> Cohort | None:
    """The cohort that is already there; None if there is none or it is damaged."""
    if not out.exists():
        return None
    if not (out / CONTRACT).is_file():
        if out.is_dir() and (not any(out.iterdir()) or (out / WORK).is_dir()):
            return None
        raise CohortError(
            "The output folder holds something that is not a cohort",
            where=out,
            fix="Name an empty or new folder with --out",
        )
    signed = read_contract(out)
    changes = signed.differences(contract)
    if signed.software != contract.software:
        changes.append(f"software: {signed.software} -> {contract.software}")
    if changes:
        raise CohortError(
            "A cohort is there already, prepared with other settings: " + "; ".join(changes),
            where=out,
            fix="Name another folder with --out, or use the settings of that cohort",
        )
    try:
        return Cohort.open(out)
    except CohortError:
        return None
