"""Labels out of a table of one's own, matched to the scans of a cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from volta3d.cohort.identity import person_key
from volta3d.errors import UsageError, nearest
from volta3d.prepare.ids import bare
from volta3d.prepare.tables import read_table


def own_table(
    table: Path, people: Any, target: str, classes: Sequence[str] = ()
) -> tuple[list[Any], dict[int, tuple[str, str]]]:
    """Values for each scan out of a table, and which scans have no row there.

    Args:
        table: rows by ``scan_id``, or by ``participant_id`` and, where it has them, ``session`` and
            ``dataset``; ids are compared without case and without ``sub-`` and ``ses-``.
        people: the cohort's participants.
        target: the column.
        classes: names of classes, also such as "none" that elsewhere mean a missing value.

    Raises:
        UsageError: no such column, no ids, an id with two values, or an id that two people have.
    """
    rows = read_table(table, classes)
    columns = list(rows[0]) if rows else []
    if target.lower() not in columns:
        raise UsageError(
            "No such column in the table of labels",
            where=f"{target} in {table}",
            fix=nearest(target.lower(), columns) if columns else "The table is empty",
        )
    wanted = ["scan_id"] if "scan_id" in columns else ["participant_id", "session", "dataset"]
    keys = [k for k in wanted if k in columns]
    if not {"scan_id", "participant_id"} & set(keys):
        raise UsageError(
            "The table of labels names no scans",
            where=table,
            fix="Give it a column scan_id or participant_id",
        )
    found: dict[tuple[str, ...], str] = {}
    for row in rows:
        key = _key(row, keys)
        value = row.get(target.lower(), "")
        if found.get(key, value) != value:
            raise UsageError(
                f"The table of labels gives {'/'.join(key)} twice: {found[key]} and {value}",
                where=table,
                fix="Keep one row for each",
            )
        found[key] = value
    values, dropped = [], {}
    owners: dict[tuple[str, ...], str] = {}
    for number, person in enumerate(people.to_dict("records")):
        key = _key(person, keys)
        owner = person_key(str(person["participant_id"]), str(person["dataset"]))
        if key in found and owners.setdefault(key, owner) != owner:
            raise UsageError(
                f"The table of labels says {'/'.join(key)}, and several people of the cohort have "
                "that id, in different data sets",
                where=table,
                fix="Give the table a column dataset, or scan_id",
            )
        values.append(found.get(key, ""))
        if key not in found:
            dropped[number] = ("no-row", f"It has no row in {table.name}")
    return values, dropped


def no_row_matches(table: Path, people: Any) -> UsageError:
    """The error when a table names none of the scans: an id of each side shows why."""
    rows = read_table(table)
    key = "scan_id" if "scan_id" in rows[0] else "participant_id"
    return UsageError(
        f"No row of the table is about a scan of the cohort: its first {key} is "
        f"{rows[0].get(key, '')}, the cohort's is {people[key].iloc[0]}",
        where=table,
        fix="Write the ids as in participants.tsv of the cohort",
    )


def _key(row: Mapping[str, Any], keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(bare(str(row.get(k, ""))) for k in keys)
