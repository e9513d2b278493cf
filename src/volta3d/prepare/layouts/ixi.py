"""IXI: ``IXI002-Guys-0828-T1.nii.gz`` and the table IXI.xls (or IXI.csv).

The name holds subject, hospital and a number: Guys (Guy's, Philips 1.5 T), HH (Hammersmith,
Philips 3 T), IOP (Institute of Psychiatry, GE 1.5 T). The table has IXI_ID,
``SEX_ID (1=m, 2=f)`` and AGE; a code 0 is missing, and some subjects have two rows.
"""

from __future__ import annotations

import re
from pathlib import Path

from volta3d.prepare.findings import Finding
from volta3d.prepare.formats import is_nifti, stem
from volta3d.prepare.layouts.near import near_tables
from volta3d.prepare.scan import LINK_OUT, Discovery, Scan, unique, within
from volta3d.prepare.tables import Row, person, read_table

DATASET = "ixi"
NAME = re.compile(r"IXI(\d{3})-([A-Za-z]+)-(\d+)-T1", re.IGNORECASE)
SITES = {"guys": "Guys", "hh": "HH", "iop": "IOP"}
SEX_LEVELS = {"1": "male", "2": "female"}


def matches(root: Path) -> bool:
    """Whether there is a T1 scan named as IXI does."""
    return root.is_dir() and any(NAME.fullmatch(stem(p)) for p in _files(root))


def discover(root: Path) -> Discovery:
    """Every T1 scan with what IXI's table says about its subject."""
    rows = _rows(root)
    scans, refused = list[Scan](), list[tuple[Path, Finding]]()
    for path in _files(root):
        match = NAME.fullmatch(stem(path))
        if match is None:
            continue
        if not within(path, root):
            refused.append((path, LINK_OUT))
            continue
        row, findings = _row(rows.get(int(match[1]), []))
        sex = next((v for k, v in row.items() if k.startswith("sex")), "")
        about = person([{"sex": "" if sex == "0" else sex, "age": row.get("age", "")}], SEX_LEVELS)
        subject = f"IXI{match[1]}"
        scans.append(
            Scan(
                source=path,
                scan_id=f"{DATASET}_{subject}",
                participant_id=subject,
                run=match[3],
                dataset=DATASET,
                site=SITES.get(match[2].lower(), match[2]),
                sex=about.sex,
                age=about.age,
                findings=(*findings, *about.findings),
            )
        )
    return Discovery(unique(scans, root), tuple(refused))


def _row(rows: list[Row]) -> tuple[Row, list[Finding]]:
    """The row that says most; the first of equals."""
    if not rows:
        what, fix = "Not in IXI's table", "Put IXI.xls into the source folder, or beside it"
        return {}, [Finding("warning", "no-participant-row", what, fix)]
    best = max(rows, key=lambda row: sum(bool(v) for v in row.values()))
    if len(rows) == 1:
        return best, []
    what = f"{len(rows)} rows of IXI's table; took the fullest"
    return best, [Finding("warning", "repeated-participant", what, "Keep one row each")]


def _rows(root: Path) -> dict[int, list[Row]]:
    rows: dict[int, list[Row]] = {}
    tables = near_tables(
        root, lambda name, names: name in ("ixi.xls", "ixi.xlsx") or "ixi_id" in names
    )
    for row in read_table(tables[0]) if tables else []:
        number = row.get("ixi_id", "").upper().removeprefix("IXI")
        if number.isdigit():
            rows.setdefault(int(number), []).append(row)
    return rows


def _files(root: Path) -> list[Path]:
    found = [*root.glob("IXI*"), *root.glob("*/IXI*")]
    return sorted(p for p in found if is_nifti(p))
