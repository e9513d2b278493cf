"""The participants table of a cohort: one row per scan, always the same columns."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from volta3d.errors import CohortError
from volta3d.files import write_text

COLUMNS = (
    "scan_id",
    "participant_id",
    "session",
    "dataset",
    "site",
    "sex",
    "age",
    "diagnosis",
    "label_file",
    "label_sha256",
    "source",
    "source_sha256",
    "foreground_mm3",
    "brain_mm3",
    "findings",
)
NUMERIC = ("age", "foreground_mm3", "brain_mm3")
ADDED = ("label_sha256",)  # columns that cohorts of older versions lack
QUARANTINE_COLUMNS = ("source", "code", "what", "how_to_fix")


def complete(table: pd.DataFrame) -> pd.DataFrame:
    """``table`` with exactly the columns of a participants table, missing ones empty.

    Raises:
        CohortError: no ``scan_id``, a repeated or empty one, or text where a number belongs.
    """
    if "scan_id" not in table.columns:
        raise CohortError("A participants table needs a column scan_id", fix="Add one id per scan")
    full = pd.DataFrame(index=range(len(table)))
    for column in COLUMNS:
        given = table[column].to_list() if column in table.columns else [None] * len(table)
        full[column] = _numbers(column, given) if column in NUMERIC else _texts(given)
    bare = full["participant_id"] == ""
    full.loc[bare, "participant_id"] = full.loc[bare, "scan_id"]
    folded = full["scan_id"].str.casefold()
    if (full["scan_id"] == "").any() or folded.duplicated().any():
        wrong = full["scan_id"][(full["scan_id"] == "") | folded.duplicated()].iloc[0]
        raise CohortError("A scan id is empty or repeated", where=wrong, fix="Give unique ids")
    return full


def _numbers(column: str, values: list[Any]) -> np.ndarray:
    try:
        known = [np.nan if v is None or v == "" else float(v) for v in values]
        return np.array(known, np.float64)
    except (ValueError, TypeError) as error:
        raise CohortError(
            f"Column {column} holds something that is not a number: {error}",
            where="participants table",
            fix="Correct it or leave it empty",
        ) from error


def _texts(values: list[Any]) -> pd.Series:
    texts = ["" if value is None or value != value else str(value) for value in values]
    return pd.Series(texts, dtype=object)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Publish a table as tab-separated UTF-8, floats written so that they read back exactly."""
    write_text(path, table.to_csv(sep="\t", index=False, lineterminator="\n"))


def read_participants(path: Path) -> pd.DataFrame:
    """Read a participants table written by ``write_table``.

    Raises:
        CohortError: missing, not readable, or without the right columns.
    """
    table = _read(path)
    missing = [c for c in COLUMNS if c not in table.columns and c not in ADDED]
    if missing:
        raise CohortError(
            f"The participants table lacks {', '.join(missing)}",
            where=path,
            fix="Prepare the cohort again",
        )
    extra = table[[c for c in table.columns if c not in COLUMNS]]
    full = complete(table)
    return pd.concat([full, extra], axis=1) if len(extra.columns) else full


def read_quarantine(path: Path) -> pd.DataFrame:
    """Read ``quarantine.tsv``; an absent file reads as an empty table."""
    if not path.exists():
        return pd.DataFrame(columns=list(QUARANTINE_COLUMNS), dtype=object)
    return _read(path)


def _read(path: Path) -> pd.DataFrame:
    try:
        text = path.read_text(encoding="utf-8")
        return pd.read_csv(
            io.StringIO(text), sep="\t", dtype=object, keep_default_na=False, na_filter=False
        )
    except (OSError, ValueError) as error:
        raise CohortError(
            f"A table of the cohort cannot be read: {error}",
            where=path,
            fix="Prepare the cohort again",
        ) from error
