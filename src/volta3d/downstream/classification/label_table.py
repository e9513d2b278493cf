"""Labels out of a table of one's own, matched to the scans of a cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from volta3d.errors import UsageError, nearest
from volta3d.prepare.tables import bare, read_table


def own_table(
    table: Path, people: Any, target: str
) -> tuple[list[Any], dict[int, tuple[str, str]]]:
    """Values for each scan out of a table, and which scans have no row there.

    Args:
        table: rows by ``scan_id``, or by ``participant_id`` and, if it has one, ``session``; ids
            are compared without case and without ``sub-`` and ``ses-``.
        people: the cohort's participants.
        target: the column.

    Raises:
        UsageError: no such column, no ids, or an id with two values.
    """
    rows = read_table(table)
    columns = list(rows[0]) if rows else []
    if target.lower() not in columns:
        raise UsageError(
            "No such column in the table of labels",
            where=f"{target} in {table}",
            fix=nearest(target.lower(), columns) if columns else "The table is empty",
        )
    wanted = ["scan_id"] if "scan_id" in columns else ["participant_id", "session"]
    keys = [k for k in wanted if k in columns]
    if not keys:
        raise UsageError(
            "The table of labels names no scans",
            where=table,
            fix="Give it a column scan_id or participant_id",
        )
    prefixes = {"participant_id": "sub-", "session": "ses-"}
    found: dict[tuple[str, ...], str] = {}
    for row in rows:
        key = tuple(bare(row.get(k, ""), prefixes.get(k, "")) for k in keys)
        value = row.get(target.lower(), "")
        if found.get(key, value) != value:
            raise UsageError(
                f"The table of labels gives {'/'.join(key)} twice: {found[key]} and {value}",
                where=table,
                fix="Keep one row for each",
            )
        found[key] = value
    values, dropped = [], {}
    for number, person in enumerate(people.to_dict("records")):
        key = tuple(bare(str(person[k]), prefixes.get(k, "")) for k in keys)
        values.append(found.get(key, ""))
        if key not in found:
            dropped[number] = ("no-row", f"It has no row in {table.name}")
    return values, dropped
