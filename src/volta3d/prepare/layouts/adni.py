"""ADNI as downloaded: the IDA's tree of images, its search table and ADNIMERGE.

Subjects are named ``002_S_0295``: site, S, and a number that is unique across sites. What the
tables say: the search table (``Image Data ID, Subject, Group, Sex, Age, Visit, ...``) per image;
ADNIMERGE (``PTID, VISCODE, EXAMDATE, AGE, PTGENDER, DX_bl, DX, ...``) per visit, its AGE that at
the first one. Sex is M or F in the one and Male or Female in the other; the code 1 is male, 2
female where a table from the clinic's forms stands in. The diagnosis is that of the visit nearest
the scan, else the research group of the search table.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from volta3d.prepare.findings import Finding
from volta3d.prepare.layouts.ida import (
    IdaImage,
    ida_images,
    ida_subjects,
    read_day,
    row_of,
    search_table,
)
from volta3d.prepare.layouts.near import near_tables
from volta3d.prepare.scan import Discovery, Scan, plain, slug, unique
from volta3d.prepare.tables import Row, person, read_table

DATASET = "adni"
PTID = re.compile(r"\d{3}_S_\d{4,5}")
SEX_LEVELS = {"1": "male", "2": "female"}
DIAGNOSES = {"dementia": "AD", "nl": "CN"}  # ADNIMERGE's words for the groups AD and CN
VISIT_DAYS = 183  # a diagnosis further from the scan than this is not that of its visit
NO_CODE = {"-1", "-4"}


def matches(root: Path) -> bool:
    """Whether there are subject folders named as ADNI does, with an IDA tree below."""
    return root.is_dir() and bool(ida_subjects(root, is_ptid))


def discover(root: Path) -> Discovery:
    """Every T1-weighted image with what the tables say about its subject on that day."""
    images, refused = ida_images(root, is_ptid)
    return Discovery(adni_scans(images, root, DATASET), tuple(refused))


def is_ptid(name: str) -> bool:
    """Whether a name is a subject of ADNI."""
    return bool(PTID.fullmatch(name))


def adni_scans(images: Sequence[IdaImage], root: Path, dataset: str) -> tuple[Scan, ...]:
    """Images as scans; several of one day are all kept, and say so."""
    rows, visits = search_table(root, is_ptid), merged_visits(root)
    same_day = Counter((i.subject, i.day) for i in images)
    scans = [_scan(i, row_of(i, rows), visits.get(i.subject, Visits()), dataset) for i in images]
    told = [
        replace(s, findings=(*s.findings, several_scans(n))) if n > 1 else s
        for s, i in zip(scans, images, strict=True)
        for n in [same_day[i.subject, i.day]]
    ]
    return unique(told, root)


def several_scans(count: int) -> Finding:
    """What is said of scans that share a visit."""
    what = f"{count} T1-weighted scans of one person and day; all of them are kept"
    fix = "To train on one each, move the others out of the source"
    return Finding("info", "several-scans", what, fix)


@dataclass
class Visits:
    """What ADNIMERGE says about one subject: rows by their days, in order."""

    rows: list[tuple[date, Row]] = field(default_factory=list)

    def nearest(self, day: date | None) -> Row:
        """The row of the visit nearest a day and within half a year of it; empty without one."""
        if day is None:
            return {}
        near = [(abs((d - day).days), n) for n, (d, r) in enumerate(self.rows) if r.get("dx")]
        days, index = min(near, default=(VISIT_DAYS + 1, -1))
        return self.rows[index][1] if days <= VISIT_DAYS else {}

    def age(self, day: date | None) -> str:
        """Years on a day, from the age at the first visit; empty when unknown."""
        known = [(d, r) for d, r in self.rows if r.get("age")]
        first = next(
            ((d, r) for d, r in known if r.get("viscode") == "bl"), next(iter(known), None)
        )
        if first is None or day is None:
            return ""
        try:
            return f"{float(first[1]['age']) + (day - first[0]).days / 365.25:.2f}"
        except ValueError:
            return ""


def merged_visits(root: Path) -> dict[str, Visits]:
    """ADNIMERGE by subject; {} without it."""
    visits: dict[str, Visits] = {}
    needed = {"ptid", "viscode", "examdate"}
    for path in near_tables(root, lambda _, names: needed <= names, skip=is_ptid):
        for row in read_table(path):
            day = read_day(row.get("examdate", ""))
            if day is not None and row.get("ptid"):
                visits.setdefault(row["ptid"], Visits()).rows.append((day, row))
    for known in visits.values():
        known.rows.sort(key=lambda pair: pair[0])
    return visits


def _scan(image: IdaImage, row: Row, visits: Visits, dataset: str) -> Scan:
    findings = list(image.findings)
    if not row and not visits.rows:
        what = "Not in a search table of the IDA nor in ADNIMERGE"
        fix = "Put the CSV file of the download into the source folder, or beside it"
        findings.append(Finding("warning", "no-participant-row", what, fix))
    day = image.day or read_day(row.get("acq date", ""))
    visit = visits.nearest(day)
    group = row.get("group", "")
    diagnosis = visit.get("dx", "") or group
    if group and not visit:
        what = "The diagnosis is the research group of the search table, not that of the visit"
        findings.append(Finding("info", "diagnosis-of-group", what))
    about = person(
        [
            {"sex": row.get("sex", ""), "age": row.get("age", "")},
            {"sex": _first(r.get("ptgender", "") for _, r in visits.rows), "age": visits.age(day)},
        ],
        SEX_LEVELS,
    )
    session = slug(row.get("visit", "")) if row.get("visit") else (day.isoformat() if day else "")
    parts = [dataset, image.subject, image.image_id or slug(image.description)]
    return Scan(
        source=image.source,
        scan_id=slug("_".join(parts)),
        participant_id=image.subject,
        session=session,
        run=image.image_id,
        dataset=dataset,
        site=image.subject[:3],
        sex=about.sex,
        age=about.age,
        diagnosis=plain(DIAGNOSES.get(diagnosis.lower(), diagnosis)),
        findings=(*findings, *about.findings),
        series=image.series,
    )


def _first(values: Iterable[str]) -> str:
    return next((v for v in values if v and v not in NO_CODE), "")
