"""What the tables of a data set say about each of its people and sessions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from volta3d.artefacts import COLUMNS, PARTICIPANTS
from volta3d.prepare.ages import unit_of_column
from volta3d.prepare.fetched import missing_content
from volta3d.prepare.findings import Finding
from volta3d.prepare.ids import match_ids
from volta3d.prepare.scan import plain
from volta3d.prepare.tables import (
    DIAGNOSIS_COLUMNS,
    Person,
    Row,
    person,
    read_columns,
    read_table,
)

PEOPLE = (
    "participant_id", "subject_id", "participant", "subject", "sub", "subjectid", "patient_id",
    "patient", "ptid", "id", "name",
)  # fmt: skip
SESSIONS = ("session_id", "session", "ses", "visit", "viscode", "timepoint")
ROOT_SESSIONS = "sessions.tsv"  # one for all, beside participants.tsv


class People:
    """The rows of ``participants.tsv`` and of tables of sessions.

    Args:
        root: of the data set.
        participants: its people, as their folders are called.

    Raises:
        CohortError: a table cannot be read.
    """

    def __init__(self, root: Path, participants: Iterable[str]) -> None:
        self.root, self.table = root, root / PARTICIPANTS
        self.columns = read_columns(root / COLUMNS)
        self._elsewhere = missing_content(self.table)
        wanted = list(participants)
        self._tables = [
            SubjectRows(read_table(path), wanted, path.name)
            for path in (self.table, root / ROOT_SESSIONS)
            if path.is_file() and missing_content(path) is None
        ]

    def describe(
        self, participant: str, session: str, below: str = ""
    ) -> tuple[Person, list[Finding]]:
        """What is known of a participant in a session.

        Args:
            participant: as the folder is called.
            session: as its folder is called, empty without one.
            below: the folder of the participants' folders, relative to the root.
        """
        rows = _rows_beside(self.root / below / participant, session)
        findings: list[Finding] = []
        for table in self._tables:
            found, noticed = table.of(participant, session)
            rows += found
            findings += noticed
        if self._elsewhere is not None:
            what = f"participants.tsv: {self._elsewhere.what}"
            fix = self._elsewhere.how_to_fix
            findings.append(Finding("warning", "table-not-fetched", what, fix))
        elif rows:  # one of the tables knows it
            findings = [f for f in findings if f.code != "no-participant-row"]
        elif not self._tables:
            what, fix = "Not in a participants.tsv", "Put one on top of the data set"
            findings.append(Finding("warning", "no-participant-row", what, fix))
        about = person(rows, self.columns)
        return about, findings


class SubjectRows:
    """A table, its rows by participant.

    Args:
        rows: of the table.
        participants: as the scans call them.
        name: of the table's file.
        column: of the ids; else the first that is called like one.
    """

    def __init__(
        self, rows: Sequence[Row], participants: Iterable[str], name: str, column: str = ""
    ) -> None:
        columns = list(rows[0]) if rows else []
        self._name = name
        self._id = column or next((c for c in PEOPLE if c in columns), "")
        self._rows: dict[str, list[Row]] = {}
        for row in rows:
            if row.get(self._id):
                self._rows.setdefault(row[self._id], []).append(row)
        self._matches = match_ids(participants, self._rows)
        self._columns = columns

    def of(self, participant: str, session: str) -> tuple[list[Row], list[Finding]]:
        """The row of a participant in a session, [] without one, and what was noticed."""
        unclear = self._matches.unclear.get(participant)
        if unclear:
            return [], [unclear_id(participant, unclear)]
        name = self._matches.found.get(participant)
        if name is None:
            return [], [self._nobody(participant)]
        row, findings = of_session(self._rows[name], session)
        cased = [n for n in self._rows if n != name and n.casefold() == name.casefold()]
        if cased:
            what = f"Rows whose ids differ by case alone: {', '.join([name, *cased])}"
            findings = [*findings, Finding("warning", "repeated-participant", what, ONE_ROW)]
        return [row], findings

    def _nobody(self, participant: str) -> Finding:
        if self._rows and not self._matches.found:
            return fits_nobody(self._name, self._id, next(iter(self._rows)), participant)
        if self._columns and not self._id:
            what = f"{self._name} has no column of ids; its columns are "
            what += ", ".join(plain(c) for c in self._columns[:8]) or "none"
            fix = "Call the column of ids participant_id, with tabs between the columns"
            return Finding("warning", TABLE_UNUSED, what, fix)
        return Finding("warning", "no-participant-row", f"Not in {self._name}")


ONE_ROW = "Keep one row each"
TABLE_UNUSED = "table-fits-nobody"


def fits_nobody(table: str, column: str, theirs: str, ours: str) -> Finding:
    """The finding on every scan of a source whose table knows none of them."""
    what = f"No row of the table {table} fits a scan: its first {column} is {plain(theirs)}"
    fix = f"Write the ids as the scans have them, such as {plain(ours)}"
    return Finding("warning", TABLE_UNUSED, what, fix)


def unclear_id(ours: str, theirs: Sequence[str]) -> Finding:
    """The finding on an id that several of a table's fit equally well."""
    names = " and ".join(plain(name) for name in theirs)
    what = f"The table's {names} fit {plain(ours)} equally well; none was taken"
    if len(theirs) == 1:
        what = f"The table's {names} fits {plain(ours)} and others equally well; it was not taken"
    fix = "Write the ids in the table exactly as the scans have them"
    return Finding("warning", "ambiguous-participant", what, fix)


def of_session(rows: Sequence[Row], session: str) -> tuple[Row, list[Finding]]:
    """The row of a session among those of one person.

    Where no row is of that session, what all of them agree on is taken but for age and diagnosis,
    which change from visit to visit.
    """
    column = next((c for c in SESSIONS if c in rows[0]), "")
    named: dict[str, Row] = {}
    for row in rows:
        named.setdefault(row.get(column, "") if column else "", row)
    if not column or (set(named) == {""}) or (len(rows) == 1 and not session):
        if len(rows) == 1:
            return rows[0], []
        what = f"{len(rows)} rows for this subject; took the first"
        return rows[0], [Finding("warning", "repeated-participant", what, ONE_ROW)]
    match = match_ids([session] if session else [], [n for n in named if n])
    if session in match.found:
        name = match.found[session]
        if sum(row.get(column, "") == name for row in rows) == 1:
            return named[name], []
        what = f"Several rows for session {plain(name)}; took the first"
        return named[name], [Finding("warning", "repeated-participant", what, ONE_ROW)]
    what = f"No row of the table is of session {plain(session) or '(none)'}; age not taken"
    fix = f"Give its row a {column} as the scan has it"
    return _agreed(rows), [Finding("warning", "no-session-row", what, fix)]


def _agreed(rows: Sequence[Row]) -> dict[str, str]:
    changing = {c for c in rows[0] if unit_of_column(c) is not None or c in DIAGNOSIS_COLUMNS}
    return {
        column: text
        for column, text in rows[0].items()
        if column not in changing and all(row.get(column) == text for row in rows)
    }


def _rows_beside(subject: Path, session: str) -> list[Row]:
    """Rows of ``sub-*_sessions.tsv`` in the subject's folder."""
    table = subject / f"{subject.name}_sessions.tsv"
    if not session or not table.is_file():
        return []
    rows: Mapping[str, Row] = {row.get("session_id", ""): row for row in read_table(table)}
    found = match_ids([session], [name for name in rows if name]).found
    return [rows[name] for name in found.values()]
