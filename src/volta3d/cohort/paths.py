"""Paths in a cohort's tables: absolute, or relative to the cohort, whatever folder one stands in.

A file in the folder that holds the cohort, or below it, is written relative to the cohort, so that
scans and cohort may move together; any other file is written with its absolute path.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pandas as pd

PART = re.compile(r"(?:^|;)(\d+)=(.+?)(?=;\d+=|$)")  # of a label map in several files


def written_path(path: Path, cohort: Path) -> Path:
    """How a cohort's tables name a file.

    Args:
        path: the file, absolute or relative to the current folder.
        cohort: the cohort's folder.
    """
    whole, home = Path(os.path.normpath(Path.cwd() / path)), cohort.resolve()
    if whole.is_relative_to(home.parent):
        return Path(os.path.relpath(whole, home))
    return whole


def located(path: Path, cohort: Path) -> Path:
    """The file that a cohort's tables name.

    Args:
        path: as ``written_path`` made it.
        cohort: the cohort's folder as it is called now.
    """
    return path if path.is_absolute() else Path(os.path.normpath(cohort.resolve() / path))


def label_parts(cell: str) -> list[tuple[int, Path]]:
    """Values and files of a label map in several files, as a table names them; [] of one file."""
    found = [(int(value), Path(path)) for value, path in PART.findall(cell)]
    return found if len(found) > 1 and PART.sub("", cell) == "" else []


def moved_paths(table: pd.DataFrame, old: Path, new: Path) -> pd.DataFrame:
    """A participants table whose paths name the same files from another cohort's folder."""

    def moved(cell: str) -> str:
        parts = label_parts(cell)
        if parts:
            return ";".join(f"{value}={moved(str(path))}" for value, path in parts)
        return str(written_path(located(Path(cell), old), new))

    table = table.copy()
    # a cohort made from arrays has no files, one of an older version doesn't say relative to what
    older = (table["label_file"] != "") & (table["label_sha256"] == "")
    files = (table["source"] != "") & ~older
    for column in ("source", "label_file"):
        there = files & (table[column] != "")
        table.loc[there, column] = [moved(cell) for cell in table.loc[there, column]]
    return table
