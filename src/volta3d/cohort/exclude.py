"""Which scans must be left out so that a cohort shares nobody with others (leakage, L2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from volta3d.cohort.overlap import Progress, overlaps, prints_of
from volta3d.cohort.store import Cohort
from volta3d.files import content_hash


@dataclass(frozen=True)
class Exclusion:
    """Scans to leave out, and why.

    Args:
        against: name and hash of each cohort whose people were looked for.
        scans: per scan its id and reason: what it shares, with which scan of which cohort.
    """

    against: tuple[dict[str, str], ...]
    scans: tuple[dict[str, Any], ...]

    @property
    def scan_ids(self) -> frozenset[str]:
        """The scans to leave out."""
        return frozenset(str(s["scan_id"]) for s in self.scans)

    def content(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"against": list(self.against), "scans": list(self.scans)}

    def identity(self) -> dict[str, Any]:
        """What a resumed run must share: the cohorts excluded and what that took out."""
        hashes = sorted(a["hash"] for a in self.against)
        return {"cohorts": content_hash(hashes), "scans": content_hash(sorted(self.scan_ids))}


def exclusion(
    cohorts: Sequence[Cohort], against: Sequence[Cohort], progress: Progress | None = None
) -> Exclusion:
    """All scans in ``cohorts`` of people who are in ``against``, as ``audit`` recognises them.

    One shared or nearly identical image takes out every scan of its person.

    Args:
        cohorts: to train on.
        against: to test on.
        progress: called with (scans read, of all).
    """
    ours = len(cohorts)
    every = [*cohorts, *against]
    prints = prints_of(every, progress)
    names = [c.path.name for c in every]
    reasons: dict[str, dict[str, Any]] = {}
    for found, a, b in overlaps(prints, names):
        if (a.cohort < ours) != (b.cohort < ours):
            mine = a if a.cohort < ours else b
            other, cohort = (b, names[b.cohort]) if mine is a else (a, names[a.cohort])
            why = {"reason": found.kind, "cohort": cohort, "as": other.scan_id}
            reasons.setdefault(mine.person, why)
    scans = [
        {"scan_id": p.scan_id, **reasons[p.person]}
        for p in prints
        if p.cohort < ours and p.person in reasons
    ]
    stated = tuple({"path": c.path.name, "hash": c.hash()} for c in against)
    return Exclusion(stated, tuple(scans))
