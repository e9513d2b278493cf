"""``audit``: what cohorts share that they should not, and how their sites are made up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from volta3d.cohort.overlap import KINDS, Overlap, Progress, overlaps, prints_of
from volta3d.cohort.phash import NEAR
from volta3d.cohort.store import Cohort
from volta3d.errors import CohortError
from volta3d.files import write_json

SHOWN = 8  # pairs of a kind in the text; the JSON has them all


@dataclass(frozen=True)
class AuditResult:
    """What an audit found.

    Args:
        cohorts: name, hash, scans and people of each.
        overlaps: pairs of scans that are one image or of one person.
        shared: per pair of cohorts how many people are in both, recognised by name or picture.
        sites: rows of cohort, dataset, site and sex with counts and mean age.
        near: the largest share of unlike bits that counted as nearly the same.
    """

    cohorts: tuple[dict[str, Any], ...]
    overlaps: tuple[Overlap, ...]
    shared: tuple[dict[str, Any], ...]
    sites: tuple[dict[str, Any], ...]
    near: float

    @property
    def found(self) -> bool:
        """Whether anything is shared."""
        return bool(self.overlaps)

    def content(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "cohorts": list(self.cohorts),
            "found": self.found,
            "near": self.near,
            "overlaps": [o.content() for o in self.overlaps],
            "shared": list(self.shared),
            "sites": list(self.sites),
        }

    def text(self) -> str:
        """For a person to read."""
        lines = [f"{c['name']}: {c['scans']} scans of {c['people']} people" for c in self.cohorts]
        counts = Counter(o.kind for o in self.overlaps)
        for pair in self.shared:
            names = " and ".join(pair["cohorts"])
            lines.append(f"{pair['people']} people are in both {names}")
        for kind, what in KINDS.items():
            lines += _pairs(what, [o for o in self.overlaps if o.kind == kind], counts[kind])
        if not self.found:
            lines.append("Nothing is shared.")
        return "\n".join([*lines, "", *_table(self.sites)])


def audit(
    cohorts: Sequence[Path | str],
    *,
    out: Path | None = None,
    near: float = NEAR,
    progress: Progress | None = None,
) -> AuditResult:
    """Look for people and images that several cohorts, or two rows of one, share.

    People are recognised by their ids, also by those of other data sets' naming (see
    ``identity``), images by the hash of their file, of their prepared voxels, and by a perceptual
    hash that small changes hardly touch (see ``phash``).

    Args:
        cohorts: folders that ``prepare`` made; one alone is looked through for doubles.
        out: a JSON file to write.
        near: the largest share of unlike bits that counts as nearly the same.
        progress: called with (scans read, of all).

    Raises:
        CohortError: a cohort is missing or damaged, or given twice.
        VoltaError: ``out`` cannot be written.
    """
    opened = [Cohort.open(Path(c)) for c in cohorts]
    if not opened:
        raise CohortError("No cohort given", fix="Name at least one prepared cohort")
    if len({c.path.resolve() for c in opened}) < len(opened):
        raise CohortError("A cohort is given twice", fix="Name each cohort once")
    names = _names(opened)
    prints = prints_of(opened, progress)
    found = overlaps(prints, names, near)
    shared: dict[tuple[str, str], set[str]] = {}
    for overlap, a, b in found:
        if a.cohort != b.cohort:
            people = shared.setdefault((overlap.cohort, overlap.other_cohort), set())
            people.add(a.person)
    described = tuple(
        {
            "name": name,
            "hash": cohort.hash(),
            "scans": len(cohort),
            "people": len({p.person for p in prints if p.cohort == number}),
        }
        for number, (name, cohort) in enumerate(zip(names, opened, strict=True))
    )
    result = AuditResult(
        cohorts=described,
        overlaps=tuple(overlap for overlap, _, _ in found),
        shared=tuple({"cohorts": list(k), "people": len(v)} for k, v in shared.items()),
        sites=tuple(row for name, c in zip(names, opened, strict=True) for row in _sites(name, c)),
        near=near,
    )
    if out is not None:
        write_json(out, result.content())
    return result


def _names(cohorts: Sequence[Cohort]) -> list[str]:
    short = [c.path.resolve().name for c in cohorts]
    return [s if short.count(s) == 1 else str(c.path) for s, c in zip(short, cohorts, strict=True)]


def _sites(name: str, cohort: Cohort) -> list[dict[str, Any]]:
    """How many scans and people each data set, site and sex has, and their mean age."""
    table = cohort.participants
    rows = []
    for (dataset, site, sex), group in table.groupby(["dataset", "site", "sex"], sort=True):
        age = pd.to_numeric(group["age"]).mean()
        rows.append(
            {
                "cohort": name,
                "dataset": str(dataset),
                "site": str(site),
                "sex": str(sex),
                "scans": len(group),
                "people": int(group["participant_id"].nunique()),
                "age": None if pd.isna(age) else round(float(age), 1),
            }
        )
    return rows


def _pairs(what: str, pairs: Sequence[Overlap], count: int) -> list[str]:
    if not pairs:
        return []
    lines = [f"{count} pairs of scans are {what}:"]
    for o in pairs[:SHOWN]:
        ours, theirs = f"{o.cohort}/{o.scan_id}", f"{o.other_cohort}/{o.other_scan_id}"
        lines.append(f"  {ours} = {theirs}  (distance {o.distance:.3f})")
    more = len(pairs) - SHOWN
    return [*lines, f"  and {more} more"] if more > 0 else lines


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    columns = ["cohort", "dataset", "site", "sex", "scans", "people", "age"]
    cells = [columns, *([_cell(row[c]) for c in columns] for row in rows)]
    widths = [max(len(line[k]) for line in cells) for k in range(len(columns))]
    return ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in cells]


def _cell(value: object) -> str:
    return "-" if value in ("", None) else str(value)
