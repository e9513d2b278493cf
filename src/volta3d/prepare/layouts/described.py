"""Scans described by a table that people made, whatever its columns are called."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from volta3d.errors import CohortError
from volta3d.prepare.findings import Finding
from volta3d.prepare.formats import stem
from volta3d.prepare.ids import LEVELS, match_ids
from volta3d.prepare.people import PEOPLE, SESSIONS, of_session, unclear_id
from volta3d.prepare.scan import Scan, plain
from volta3d.prepare.tables import Columns, Row, person, read_columns, read_table

FILES = (
    "file", "filename", "file_name", "path", "filepath", "file_path", "image", "image_path", "scan",
    "scan_file", "nifti", "t1", "t1w", "t1_path",
)  # fmt: skip
REPLACED = {"no-participant-row", "sex-unknown", "age-unknown"}
NO_ROW = Finding("warning", "no-participant-row", "Not in the participants table")


class Table:
    """A table with a row per file or per subject.

    Args:
        path: a text, or a workbook of Excel.
        columns: what codes and units of its columns mean; else what a .json file beside it says.
        participants: ids of the scans it is to describe, as far as they are known.

    Raises:
        CohortError: unreadable, or no column names a file or a subject.
    """

    def __init__(
        self, path: Path, columns: Columns | None = None, participants: Iterable[str] = ()
    ) -> None:
        rows = read_table(path)
        names = list(rows[0]) if rows else []
        self.columns = columns or read_columns(path.with_suffix(".json"))
        self.file = next((c for c in FILES if c in names), "")
        self.person = next((c for c in PEOPLE if c in names), "")
        if not self.file and not self.person:
            raise CohortError(
                "A table has no column that names files or subjects; its columns are "
                + (", ".join(names[:12]) or "none"),
                where=path,
                fix="Call the column of ids participant_id, or that of file names file",
            )
        self.path, self.first = path, rows[0].get(self.person, "") if rows else ""
        self._files: dict[str, list[Row]] = {}
        self._people: dict[str, list[Row]] = {}
        for row in rows:
            named = row.get(self.file, "").replace("\\", "/").lower().removeprefix("./")
            last = Path(named).name
            for key in {named, last, stem(Path(last))} - {""}:
                self._files.setdefault(key, []).append(row)
            if row.get(self.person):
                self._people.setdefault(row[self.person], []).append(row)
        self._matches = match_ids(participants, self._people)

    def find(
        self, name: str, people: Iterable[str], session: str
    ) -> tuple[Row, tuple[Finding, ...]]:
        """The row of a scan: that of its file, else that of its subject and session.

        Args:
            name: path of the scan relative to its source, with slashes.
            people: what the subject may be called, the likeliest first.
            session: of the scan, empty if unknown.
        """
        file = Path(name.lower())
        for key in (name.lower(), file.name, stem(file)):
            if len(self._files.get(key, [])) == 1:
                return self._files[key][0], ()
        for one in filter(None, people):
            ids = self._ids(one)
            if len(ids) > 1:
                return {}, (unclear_id(one, ids),)
            for own in ids:
                row, noticed = of_session(self._people[own], session)
                return row, tuple(noticed)
        return {}, (NO_ROW,)

    def _ids(self, person: str) -> Sequence[str]:
        """The ids of the table that a name fits, those as good as each other."""
        if person in self._matches.unclear:
            return self._matches.unclear[person]
        if person in self._matches.found:
            return [self._matches.found[person]]
        taken = set(self._matches.found.values())
        for level in LEVELS:
            ids = [own for own in self._people if level(own) == level(person) and own not in taken]
            if ids:
                return ids
        return []

    def describe(self, scan: Scan, root: Path, people: Iterable[str] = ()) -> Scan:
        """A scan with what the table says; what it does not say stays as it was."""
        inside = scan.source.is_relative_to(root)
        name = scan.source.relative_to(root).as_posix() if inside else scan.source.name
        row, findings = self.find(name, [scan.participant_id, *people], scan.session)
        if not row:
            return replace(scan, findings=(*scan.findings, *findings))
        about = person([row], self.columns)
        known = {"site": about.site, "sex": about.sex, "diagnosis": about.diagnosis}
        values: dict[str, str] = {k: v for k, v in known.items() if v}
        values |= {"participant_id": plain(row[self.person])} if row.get(self.person) else {}
        told = next((row[c] for c in SESSIONS if row.get(c)), "")
        values |= {"session": plain(told)} if told and not scan.session else {}
        age = scan.age if math.isnan(about.age) else about.age
        kept = [f for f in scan.findings if f.code not in REPLACED]
        new = replace(scan, age=age, **values)  # type: ignore[arg-type]
        unknown = [f for f in about.findings if not _known(new, f.code)]
        return replace(new, findings=(*kept, *findings, *unknown))


def described(scans: Sequence[Scan], table: Path, root: Path) -> tuple[Scan, ...]:
    """Scans of any layout with what a table says about them.

    Raises:
        CohortError: the table cannot be read or fits none of the scans.
    """
    if not table.is_file():
        raise CohortError("No such table", where=table, fix="Check the path")
    known = Table(table, participants={s.participant_id for s in scans})
    told = tuple(known.describe(scan, root) for scan in scans)
    if scans and all(NO_ROW in scan.findings for scan in told):
        raise CohortError(
            "No row of the table fits a scan",
            where=table,
            fix=f"Its column {known.file or known.person} should hold names such as "
            f"{scans[0].source.name if known.file else scans[0].participant_id}",
        )
    return told


def _known(scan: Scan, code: str) -> bool:
    return bool(scan.sex) if code == "sex-unknown" else not math.isnan(scan.age)
