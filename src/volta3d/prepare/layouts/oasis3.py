"""OASIS-3 and OASIS-4 of XNAT or NITRC-IR: ``OAS30001_MR_d0129/anat2/NIFTI/sub-..._T1w.nii.gz``.

A folder a session, named by subject and by the days since the subject entered the study; a folder a
scan (``anat1``, ``anat2``, ``func1``, ...), whose ``NIFTI`` folder some download scripts leave out.
File names are those of BIDS but for ``sess-d0129``. Sessions lie in the source or in folders of it.

Tables: OASIS3_demographics (``OASISID, AgeatEntry, GENDER``, where 1 is male and 2 female) and
OASIS3_UDSb4_cdr (``OASISID, days_to_visit, age at visit, CDRTOT, dx1``). The diagnosis is the first
one of the visit nearest the scan and within a year of it, as the clinic words it; its age too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from volta3d.prepare.findings import Finding
from volta3d.prepare.formats import is_nifti, stem
from volta3d.prepare.layouts.bids_names import entities
from volta3d.prepare.layouts.near import near_tables
from volta3d.prepare.scan import LINK_OUT, Discovery, Scan, plain, slug, unique, within
from volta3d.prepare.tables import Row, person, read_table
from volta3d.prepare.walk import files_below, folders

SESSION = re.compile(r"(OAS[34]\d{4})_MR_d(\d{4,5})")
SEX_LEVELS = {"1": "male", "2": "female"}
DATA_FILES = "oasis3_data_files"  # the folder of tables, as the archive calls it
VISIT_DAYS = 365  # visits are about a year apart
NO_TABLE = Finding(
    "warning",
    "no-participant-row",
    "Not in OASIS3_demographics",
    "Put the CSV files of OASIS3_data_files into the source folder, or beside it",
)


def matches(root: Path) -> bool:
    """Whether there is a session named as OASIS does with an anatomical scan."""
    return root.is_dir() and any(True for session in _sessions(root) for _ in _images(session))


def discover(root: Path) -> Discovery:
    """Every T1w image with what the tables say about its subject on that day."""
    people, visits = _tables(root)
    scans, refused = list[Scan](), list[tuple[Path, Finding]]()
    for session in _sessions(root):
        for image in _images(session):
            if not within(image, root):
                refused.append((image, LINK_OUT))
            else:
                scans.append(_scan(image, session.name, people, visits))
    return Discovery(unique(scans, root), tuple(refused))


def _scan(
    image: Path, session: str, people: Mapping[str, Row], visits: Mapping[str, list[Row]]
) -> Scan:
    subject, _, day = session.partition("_MR_d")
    visit = _nearest(visits.get(subject, []), int(day))
    row = people.get(subject, {})
    about = person(
        [
            {"age": _age(row.get("ageatentry", ""), int(day))},
            {"sex": row.get("gender", ""), "age": visit.get("age at visit", "")},
        ],
        SEX_LEVELS,
    )
    named, dataset = entities(image), "oasis3" if subject.startswith("OAS3") else "oasis4"
    parts = [dataset, subject, f"d{day}", *(named[k] for k in ("acq", "run") if k in named)]
    return Scan(
        source=image,
        scan_id=slug("_".join(parts)),
        participant_id=subject,
        session=f"d{day}",
        run=named.get("run", ""),
        dataset=dataset,
        sex=about.sex,
        age=about.age,
        diagnosis=plain(visit.get("dx1", "")),
        findings=(*([] if row else [NO_TABLE]), *about.findings),
    )


def _sessions(root: Path) -> Iterator[Path]:
    """Session folders, in the source itself or two levels down at most."""
    level = [root]
    for _ in range(3):
        below = [p for folder in level for p in folders(folder)]
        yield from (p for p in below if SESSION.fullmatch(p.name))
        level = [p for p in below if not SESSION.fullmatch(p.name)]


def _images(session: Path) -> Iterator[Path]:
    for folder in folders(session):
        if folder.name.startswith("anat"):
            for path in files_below(folder):
                if is_nifti(path) and stem(path).lower().endswith("_t1w"):
                    yield path


def _tables(root: Path) -> tuple[dict[str, Row], dict[str, list[Row]]]:
    """People by their ids, and visits by person."""

    def is_session(name: str) -> bool:
        return bool(SESSION.fullmatch(name))

    beside = [p for p in folders(root.resolve().parent) if p.name.lower() == DATA_FILES]
    below = [path for place in (root, *beside) for path in files_below(place, skip=is_session)]
    deep = [path for path in below if path.suffix.lower() == ".csv"]
    near = near_tables(root, lambda name, _: name.startswith("oasis"), skip=is_session)
    people, visits = dict[str, Row](), dict[str, list[Row]]()
    for path in dict.fromkeys([*near, *deep]):
        for row in read_table(path) if path.name.lower().startswith("oasis") else []:
            subject = row.get("oasisid", "").upper()
            if "ageatentry" in row and "gender" in row:
                people.setdefault(subject, row)
            elif "dx1" in row and row.get("days_to_visit", "").isdigit():
                visits.setdefault(subject, []).append(row)
    return people, visits


def _nearest(visits: list[Row], day: int) -> Row:
    near = [(abs(int(row["days_to_visit"]) - day), n) for n, row in enumerate(visits)]
    days, index = min(near, default=(VISIT_DAYS + 1, -1))
    return visits[index] if days <= VISIT_DAYS else {}


def _age(entry: str, day: int) -> str:
    """Years at a scan, from those at entry; empty when unknown."""
    try:
        return f"{float(entry.replace(',', '.')) + day / 365.25:.2f}"
    except ValueError:
        return ""
