"""Whose scan each case is: intervals and tests count people, not files."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from volta3d.evaluate.segmentation.case_matching import partners
from volta3d.evaluate.segmentation.labelsets import LabelSet, key_of
from volta3d.prepare.tables import Row, read_table

TABLES = ("participants.tsv", "scans.tsv")


def subjects_of(cases: Collection[str], reference: LabelSet) -> dict[str, str]:
    """The subject of each case.

    What a ``scans.tsv`` of ours in the reference says, by ``subject`` (whom folds took for one
    person) or else by ``participant_id``; else the case's own ``sub-``; else whom a table beside
    the reference (in its folder or in the one above) names; else the case is a subject of its own.

    Args:
        cases: keys of the reference's label maps.
        reference: their folder.

    Raises:
        CohortError: a table there cannot be read.
    """
    ours = _by_file(reference)
    named = _by_table([c for c in cases if c not in ours and not _entity(c)], reference)
    return {c: ours.get(c) or _entity(c) or named.get(c) or c for c in cases}


def scan_ids_of(reference: LabelSet) -> dict[str, str]:
    """The ``scan_id`` of each case that a ``scans.tsv`` of ours in the reference names."""
    table, folder = reference.folder / "scans.tsv", reference.folder
    rows = read_table(table) if table.is_file() else []
    return {
        key_of(folder / r["file"], folder): r["scan_id"]
        for r in rows
        if r.get("file") and r.get("scan_id")
    }


def _entity(case: str) -> str:
    found = re.match(r"sub-[A-Za-z0-9]+", case)
    return found[0] if found else ""


def _by_file(reference: LabelSet) -> dict[str, str]:
    table = reference.folder / "scans.tsv"
    rows = read_table(table) if table.is_file() else []
    folder = reference.folder
    whose = {r["file"]: r.get("subject") or r.get("participant_id") for r in rows if r.get("file")}
    return {key_of(folder / file, folder): person for file, person in whose.items() if person}


def _by_table(cases: Collection[str], reference: LabelSet) -> dict[str, str]:
    """By the scan that a table names, else by the longest participant's id in the case's name."""
    rows = list(_rows(reference)) if cases else []
    scans = {r["scan_id"]: r["participant_id"] for r in rows if r.get("scan_id")}
    found = {case: scans[scan] for case, scan in partners(list(cases), list(scans)).items()}
    people = sorted({r["participant_id"] for r in rows}, key=len, reverse=True)
    for case in cases:
        inside = [p for p in people if _inside(p.removeprefix("sub-"), case)]
        if case not in found and inside and len(inside[0]) > len([*inside, ""][1]):
            found[case] = inside[0]
    return found


def _rows(reference: LabelSet) -> Iterator[Row]:
    for folder in (reference.folder, reference.folder.absolute().parent):
        for name in TABLES:
            if (folder / name).is_file():
                yield from (r for r in read_table(folder / name) if r.get("participant_id"))


def _inside(person: str, case: str) -> bool:
    whole = rf"(?<![A-Za-z0-9]){re.escape(person)}(?![A-Za-z0-9])"
    return re.search(whole, case, re.IGNORECASE) is not None
