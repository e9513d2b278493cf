"""What is done to one scan, as a value that travels to another process or machine."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path

from volta3d.cohort.contract import Contract
from volta3d.prepare.prepared_scan import Outcome
from volta3d.prepare.scan import Scan

Make = Callable[[Scan, Contract, Path, Container[str]], Outcome]


@dataclass(frozen=True)
class Task:
    """One call of ``make``.

    Args:
        make: what to do, a function of a module.
        scan: with what.
        contract: how.
        folder: where its result goes.
        known: keys of results that exist elsewhere.
    """

    make: Make
    scan: Scan
    contract: Contract
    folder: Path
    known: Container[str] = frozenset()

    def __call__(self) -> Outcome:
        """Do it."""
        return self.make(self.scan, self.contract, self.folder, self.known)

    def kept(self, outcome: Outcome) -> bool:
        """Whether what the outcome promises is there to be seen."""
        key = outcome.key
        return not key or key in self.known or (self.folder / key).exists()
