"""Tables that people made: participants, sessions, label names, in whatever dialect they come."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volta3d.errors import CohortError
from volta3d.prepare.findings import Finding
from volta3d.prepare.scan import plain
from volta3d.prepare.xls import read_xls

MISSING = {"", "n/a", "na", "nan", "none", "null", "unknown", "-", "."}
SEX = {"m": "M", "male": "M", "man": "M", "f": "F", "female": "F", "woman": "F"}
AGE_COLUMNS = (
    "age", "age_years", "age_at_scan", "age_at_session", "age at scan", "ageatscan", "age_at_visit"
)  # fmt: skip
SEX_COLUMNS = ("sex", "gender")
SITE_COLUMNS = ("site", "center", "centre", "institution", "acquisition_site", "scanner_site")
DIAGNOSIS_COLUMNS = ("diagnosis", "dx", "group", "diagnostic_group", "diagnosis_group")
OLDEST = 120.0
HEADER_BYTES = 2**16

Row = Mapping[str, str]


@dataclass(frozen=True)
class Person:
    """What a table says about one person at one time, with findings on what it does not say."""

    sex: str
    age: float
    site: str
    diagnosis: str
    findings: tuple[Finding, ...]


def read_table(path: Path) -> list[Row]:
    """The rows of a table, column names in lower case, cells stripped, missing values empty.

    Tab, comma and semicolon are told apart by the header line; UTF-8 with or without a byte order
    mark, UTF-16 with one, and Latin-1 are read, and the first sheet of an .xls workbook.

    Raises:
        CohortError: unreadable, or not a table.
    """
    lines = read_xls(path) if path.suffix.lower() == ".xls" else _read_text(path)
    lines = [[_cell(c) for c in line] for line in lines if any(c.strip() for c in line)]
    if not lines:
        return []
    names = [name.lower() for name in lines[0]]
    return [dict(zip(names, line, strict=False)) for line in lines[1:]]


def table_columns(path: Path) -> frozenset[str]:
    """The column names of a text table in lower case, from its first line; none if unreadable."""
    try:
        with path.open("rb") as file:
            start = file.read(HEADER_BYTES)
        lines = _rows_of(_decode(start[: len(start) // 2 * 2]))
        return frozenset(c.strip().strip("\ufeff").lower() for c in next(lines, []))
    except (OSError, csv.Error, UnicodeError):
        return frozenset()


def _read_text(path: Path) -> list[list[str]]:
    try:
        return list(_rows_of(_decode(path.read_bytes())))
    except (OSError, csv.Error, UnicodeError) as error:
        raise CohortError(f"A table cannot be read: {error}", where=path, fix="Fix it") from error


def _rows_of(text: str) -> Iterator[list[str]]:
    told = re.match(r"sep=([;,\t])\r?\n", text, re.IGNORECASE)  # how Excel names its separator
    text = text[told.end() :] if told else text
    first = text.splitlines()[0] if text.strip() else ""
    delimiter = told[1] if told else max("\t;,", key=first.count)
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)


def by_id(rows: Iterable[Row], column: str, prefix: str) -> tuple[dict[str, Row], set[str]]:
    """Rows by the text of a column, in lower case and without its BIDS prefix; repeated ones too.

    Where an id is repeated, also when only its case differs, the first row stands.
    """
    table: dict[str, Row] = {}
    repeated: set[str] = set()
    for row in rows:
        key = bare(row.get(column, ""), prefix)
        if key and key in table:
            repeated.add(key)
        elif key:
            table[key] = row
    return table, repeated


def bare(name: str, prefix: str) -> str:
    """An id for comparison: lower case, without ``sub-`` or ``ses-``."""
    return name.lower().removeprefix(prefix)


def person(rows: Iterable[Row], levels: Mapping[str, str] | None = None) -> Person:
    """Sex, age, site and diagnosis; a value of an earlier row wins over that of a later one.

    Args:
        rows: e.g. of the sessions table, then of the participants table.
        levels: what codes of the sex column mean, from ``participants.json``. A number that
            neither they nor the column's name (``sex (1=m, 2=f)``) explain is never guessed:
            archives disagree on whether 1 is male.
    """
    given, findings = list(rows), []
    text, stated = _sex(given)
    sex = SEX.get(text.lower(), SEX.get((levels or stated).get(text, "").lower(), ""))
    if not sex:
        what = f"Sex is given as '{plain(text)}'" if text else "Sex is not given"
        fix = "Write M or F, or say in participants.json what the codes mean" if text else ""
        findings.append(Finding("warning" if text else "info", "sex-unknown", what, fix))
    age_text = _first(given, AGE_COLUMNS)
    age = _age(age_text)
    if math.isnan(age):
        what = f"Age is given as '{plain(age_text)}'" if age_text else "Age is not given"
        findings.append(Finding("warning" if age_text else "info", "age-unknown", what))
    site, diagnosis = _first(given, SITE_COLUMNS), _first(given, DIAGNOSIS_COLUMNS)
    return Person(sex, age, plain(site), plain(diagnosis), tuple(findings))


def _sex(rows: Iterable[Row]) -> tuple[str, dict[str, str]]:
    """The sex column's text, and what its codes mean where the column's own name says so."""
    for row in rows:
        for column, text in row.items():
            if text and re.match(r"(sex|gender|ptgender)(_id|_code)?\b", column):
                return text, dict(re.findall(r"(\w+)\s*=\s*(\w+)", column))
    return "", {}


def sex_levels(path: Path) -> dict[str, str]:
    """The levels of the sex column that a ``participants.json`` documents; {} without one."""
    content = load_json(path)
    for name in SEX_COLUMNS:
        column = content.get(name, {})
        levels = column.get("Levels", {}) if isinstance(column, dict) else {}
        if isinstance(levels, dict):
            found = {str(k): v for k, v in levels.items() if isinstance(v, str)}
            if found:
                return found
    return {}


def label_names(path: Path) -> dict[int, str]:
    """The names in a BIDS ``dseg.tsv`` with columns index and name; unusable rows are left out."""
    names = {}
    for row in read_table(path):
        index = row.get("index", "")
        if index.isdigit() and row.get("name"):
            names[int(index)] = plain(row["name"])
    return names


def load_json(path: Path) -> dict[str, Any]:
    """A JSON object, {} when there is none or it is broken: metadata never end a batch."""
    try:
        content = json.loads(_decode(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _decode(raw: bytes) -> str:
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _cell(text: str) -> str:
    stripped = text.strip().strip("\ufeff")
    return "" if stripped.lower() in MISSING else stripped


def _first(rows: Iterable[Row], columns: Iterable[str]) -> str:
    names = tuple(columns)
    return next((row[c] for row in rows for c in names if row.get(c)), "")


def _age(text: str) -> float:
    try:
        age = float(text.replace(",", "."))
    except ValueError:
        return math.nan
    return age if 0 <= age <= OLDEST else math.nan
