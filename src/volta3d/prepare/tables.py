"""Tables that people made: participants, sessions, label names, in whatever dialect they come."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from volta3d.prepare.ages import age_in_years, unit_of_column, unit_of_sentence, unit_of_text
from volta3d.prepare.dialects import decode, header_of, read_cells
from volta3d.prepare.findings import Finding
from volta3d.prepare.scan import plain
from volta3d.prepare.sexes import COLUMN, entry, levels_of_header, levels_of_json, sex_of

MISSING = {"", "n/a", "na", "nan", "none", "null", "unknown", "-", "."}
SITE_COLUMNS = ("site", "center", "centre", "institution", "acquisition_site", "scanner_site")
DIAGNOSIS_COLUMNS = ("diagnosis", "dx", "group", "diagnostic_group", "diagnosis_group")
SHIFTED = " shifted"  # marks a row with more cells than the header: nothing in it is taken
TOO_LONG = Finding(
    "warning",
    "row-too-long",
    "Its row has more cells than the header, so nothing of it was taken",
    "Put cells that contain the separator in double quotes",
)

Row = Mapping[str, str]


@dataclass(frozen=True)
class Columns:
    """What a ``participants.json`` says about columns.

    Args:
        sex_levels: what the codes of the sex column mean.
        age_units: the unit of a column of ages, by the column's name in lower case.
    """

    sex_levels: Mapping[str, str] = field(default_factory=dict)
    age_units: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Person:
    """What a table says about one person at one time, with findings on what it does not say."""

    sex: str
    age: float
    site: str
    diagnosis: str
    findings: tuple[Finding, ...]


def read_table(path: Path, values: Iterable[str] = ()) -> list[Row]:
    """The rows of a table, column names in lower case, cells stripped, missing values empty.

    See ``dialects`` for what is read; .xls and .xlsx workbooks are too. A line with one cell more
    than the header begins with a name of its row, which is left away, if all lines do so.

    Args:
        path: of a text or a workbook.
        values: words such as "none" that are values here, though elsewhere they say that a value
            is missing.

    Raises:
        CohortError: unreadable, or not a table.
    """
    lines = [line for line in read_cells(path) if any(c.strip() for c in line)]
    if not lines:
        return []
    missing = MISSING - {v.strip().lower() for v in values}
    names = [_cell(name, frozenset()).lower() for name in lines[0]]
    if len(lines) > 1 and all(len(line) == len(names) + 1 for line in lines[1:]):
        names = ["", *names]
    rows = list[Row]()
    for line in lines[1:]:
        row: dict[str, str] = {}
        for name, cell in zip(names, line, strict=False):
            row.setdefault(name, _cell(cell, missing))  # of two columns of one name, the first
        if any(cell.strip() for cell in line[len(names) :]):  # which cell is one too many?
            row = {**dict.fromkeys(names, ""), names[0]: _cell(line[0]), SHIFTED: SHIFTED}
        rows.append(row)
    return rows


def table_columns(path: Path) -> frozenset[str]:
    """The column names of a text table in lower case; none of a workbook or if unreadable."""
    return frozenset(_cell(name, frozenset()).lower() for name in header_of(path)) - {""}


def person(rows: Iterable[Row], columns: Columns | Mapping[str, str] | None = None) -> Person:
    """Sex, age, site and diagnosis; a value of an earlier row wins over that of a later one.

    Args:
        rows: e.g. of the sessions table, then of the participants table.
        columns: what ``participants.json`` says, or the levels of the sex column alone. A number
            that neither they nor the column's name (``sex (1=m, 2=f)``) explain is never guessed:
            archives disagree on whether 1 is male.
    """
    given = list(rows)
    findings = [TOO_LONG] if any(SHIFTED in row for row in given) else []
    about = columns if isinstance(columns, Columns) else Columns(sex_levels=columns or {})
    cells = ((c, t) for row in given for c, t in row.items() if t and COLUMN.match(c))
    column, text = next(cells, ("", ""))
    sex = sex_of(text, about.sex_levels or levels_of_header(column))
    if not sex:
        what = f"Sex is given as '{plain(text)}'" if text else "Sex is not given"
        fix = "Write M or F, or say in participants.json what the codes mean" if text else ""
        findings.append(Finding("warning" if text else "info", "sex-unknown", what, fix))
    age, text, unit = _age(given, about)
    if math.isnan(age):
        what = f"Age is given as '{plain(text)}'" if text else "Age is not given"
        what += f" in {unit}" if text and unit else ""
        fix = "Write it in years, or name years, months, weeks or days in the column's header"
        findings.append(
            Finding("warning" if text else "info", "age-unknown", what, fix if text else "")
        )
    site, diagnosis = _first(given, SITE_COLUMNS), _first(given, DIAGNOSIS_COLUMNS)
    return Person(sex, age, plain(site), plain(diagnosis), tuple(findings))


def _age(rows: Iterable[Row], about: Columns) -> tuple[float, str, str]:
    """Years, the cell, and the units that were stated; a column called age goes first."""
    for row in rows:
        cells = [c for c, text in row.items() if text and unit_of_column(c) is not None]
        if cells:
            column = min(cells, key=lambda c: c != "age")
            text = row[column]
            break
    else:
        return math.nan, "", ""
    units = [u for u in (unit_of_column(column), about.age_units.get(column)) if u]
    return age_in_years(text, units), text, " and ".join(dict.fromkeys(units))


def read_columns(path: Path) -> Columns:
    """What a ``participants.json`` documents; nothing without one."""
    levels: dict[str, str] = {}
    units: dict[str, str] = {}
    for key, about in load_json(path).items():
        name = key.strip().lower()
        if COLUMN.match(name) and not levels:
            levels = levels_of_json(about)
        if unit_of_column(name) is not None:
            unit = entry(about, "units") or entry(about, "unit")
            text = entry(about, "description")
            units[name] = unit_of_text(str(unit)) if unit else unit_of_sentence(str(text or ""))
    return Columns(levels, units)


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
        content = json.loads(decode(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _cell(text: str, missing: Set[str] = MISSING) -> str:
    stripped = text.strip().strip("\ufeff")
    return "" if stripped.lower() in missing else stripped


def _first(rows: Iterable[Row], columns: Iterable[str]) -> str:
    names = tuple(columns)
    return next((row[c] for row in rows for c in names if row.get(c)), "")
