"""AIBL as downloaded: the IDA's tree of images and the clinic's tables.

Subject folders are plain numbers (RID). Tables are named ``aibl_<what>_<date>.csv`` and joined by
RID and VISCODE (bl, m18, m36, ...). A scan's visit is the one whose EXAMDATE in ``aibl_mrimeta``
(1.5 T) or ``aibl_mri3meta`` (3 T) is the day of its folder. ``aibl_pdxconv``: DXCURREN 1 healthy,
2 mild cognitive impairment, 3 Alzheimer's disease. ``aibl_ptdemog``: PTGENDER 1 male, 2 female;
PTDOB is a year (``/1932``), so an age from it is right to a year. -4 is missing everywhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from volta3d.prepare.findings import Finding
from volta3d.prepare.layouts.adni import several_scans
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

DATASET = "aibl"
SEX_LEVELS = {"1": "male", "2": "female"}
DIAGNOSES = {"1": "CN", "2": "MCI", "3": "AD"}
MISSING = "-4"


@dataclass(frozen=True)
class Tables:
    """The clinic's tables: rows by RID, and the image search by image number."""

    demography: Mapping[str, list[Row]]
    diagnoses: Mapping[str, list[Row]]
    examinations: Mapping[str, list[Row]]
    search: Mapping[str, Row]


def matches(root: Path) -> bool:
    """Whether it is called AIBL or holds AIBL's tables, and holds an IDA tree of plain numbers."""
    if not root.is_dir() or not ida_subjects(root, is_rid):
        return False
    names = [root.resolve().name, *(p.name for p in root.iterdir())]
    return any(n.lower().startswith("aibl") for n in names) or bool(_named(root, ""))


def discover(root: Path) -> Discovery:
    """Every T1-weighted image with what the tables say about its subject at that visit."""
    images, refused = ida_images(root, is_rid)
    tables = Tables(
        _by_rid(root, "ptdemog"),
        _by_rid(root, "pdxconv"),
        _by_rid(root, "mri"),
        search_table(root, is_rid),
    )
    same_day = Counter((i.subject, i.day) for i in images)
    scans = []
    for image in images:
        scan, count = _scan(image, tables), same_day[image.subject, image.day]
        extra = (several_scans(count),) if count > 1 else ()
        scans.append(replace(scan, findings=scan.findings + extra))
    return Discovery(unique(scans, root), tuple(refused))


def is_rid(name: str) -> bool:
    """Whether a name is a subject of AIBL."""
    return bool(re.fullmatch(r"\d{1,7}", name))


def _scan(image: IdaImage, tables: Tables) -> Scan:
    rid, row = str(int(image.subject)), row_of(image, tables.search)
    findings = list(image.findings)
    demography = tables.demography.get(rid, [])
    if not demography and not row:
        what = "Not in aibl_ptdemog nor in a search table of the IDA"
        fix = "Put AIBL's CSV files into the source folder, or beside it"
        findings.append(Finding("warning", "no-participant-row", what, fix))
    visit = _visit(image.day, tables.examinations.get(rid, [])) or _visit_of(row.get("visit", ""))
    diagnosis, found = _diagnosis(visit, tables.diagnoses.get(rid, []))
    findings += found
    age = row.get("age", "") or _age(image.day, demography)
    if not row.get("age") and age:
        what = "The age is the difference of two years, right to a year"
        findings.append(Finding("info", "age-from-year", what))
    about = person(
        [{"sex": _known(demography, "ptgender"), "age": age}, {"sex": row.get("sex", "")}],
        SEX_LEVELS,
    )
    subject = f"AIBL{rid}"
    return Scan(
        source=image.source,
        scan_id=slug("_".join([DATASET, subject, image.image_id or slug(image.description)])),
        participant_id=subject,
        session=visit or (image.day.isoformat() if image.day else ""),
        run=image.image_id,
        dataset=DATASET,
        site=plain(_known([*demography, *tables.diagnoses.get(rid, [])], "siteid")),
        sex=about.sex,
        age=about.age,
        diagnosis=diagnosis,
        findings=(*findings, *about.findings),
        series=image.series,
    )


def _diagnosis(visit: str, rows: Iterable[Row]) -> tuple[str, list[Finding]]:
    """The diagnosis of a visit; without one that is known, what all visits agree on."""
    codes = {r.get("viscode", "").lower(): r.get("dxcurren", "") for r in rows}
    codes = {v: c for v, c in codes.items() if c and c != MISSING}
    code = codes.get(visit, "")
    if not code and not visit and len(set(codes.values())) == 1:
        what = "The scan's visit is not known; the diagnosis is that of all visits"
        return DIAGNOSES.get(next(iter(codes.values())), ""), [
            Finding("info", "diagnosis-of-all-visits", what)
        ]
    if code in DIAGNOSES:
        return DIAGNOSES[code], []
    said = f"The code {plain(code)} is none of 1, 2, 3" if code else "No diagnosis at this visit"
    return "", [Finding("warning" if code else "info", "diagnosis-unknown", said)]


def _visit(day: date | None, examinations: Iterable[Row]) -> str:
    days = {read_day(r.get("examdate", "")): r.get("viscode", "").lower() for r in examinations}
    return days.get(day, "") if day is not None else ""


def _visit_of(text: str) -> str:
    """The visit code in the search table's words: Baseline, 18 Month follow-up."""
    months = re.match(r"m?(\d+)(?: ?m\w*)?\b", text.lower())
    if text.lower().startswith(("base", "bl")):
        return "bl"
    return f"m{int(months[1]):02d}" if months else ""


def _age(day: date | None, demography: Iterable[Row]) -> str:
    year = re.search(r"(\d{4})", _known(demography, "ptdob"))
    return str(day.year - int(year[1])) if year and day is not None else ""


def _known(rows: Iterable[Row], column: str) -> str:
    return next((r[column] for r in rows if r.get(column, MISSING) not in ("", MISSING)), "")


def _by_rid(root: Path, kind: str) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {}
    for path in _named(root, kind):
        for row in read_table(path):
            if row.get("rid", "").isdigit():
                rows.setdefault(str(int(row["rid"])), []).append(row)
    return rows


def _named(root: Path, kind: str) -> list[Path]:
    pattern = re.compile(rf"aibl_{kind}\w*_.*\.csv" if kind else r"aibl_\w+_.*\.csv")
    return near_tables(root, lambda name, _: bool(pattern.fullmatch(name)), skip=is_rid)
