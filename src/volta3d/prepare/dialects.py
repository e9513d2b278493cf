"""The cells of a table in whatever dialect it is written: separators, quotes, encodings."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from volta3d.errors import CohortError
from volta3d.prepare.workbook import WORKBOOKS, read_workbook

HEADER_BYTES = 2**16
SEPARATORS = "\t;,|"


def read_cells(path: Path) -> list[list[str]]:
    """The lines of a table as cells, the header first; those of a workbook's first sheet.

    Raises:
        CohortError: it cannot be read.
    """
    if path.suffix.lower() in WORKBOOKS:
        return read_workbook(path)
    try:
        return cells_of(decode(path.read_bytes()))
    except (OSError, csv.Error, UnicodeError) as error:
        raise CohortError(f"A table cannot be read: {error}", where=path, fix="Fix it") from error


def header_of(path: Path) -> list[str]:
    """The first line of a text table as cells; none of a workbook or an unreadable file."""
    if path.suffix.lower() in WORKBOOKS:
        return []
    try:
        with path.open("rb") as file:
            start = file.read(HEADER_BYTES)
        return next(iter(cells_of(decode(start[: len(start) // 2 * 2]))), [])
    except (OSError, csv.Error, UnicodeError):
        return []


def cells_of(text: str) -> list[list[str]]:
    """The lines of a text as cells.

    The separator is the one that gives the header most columns. Without any, words apart by
    spaces are columns if every line has as many (or one more, the name of the row). A quote that
    is never closed, or not where a quoted cell ends, is a letter like any other.
    """
    stated = re.match(r"sep=([;,\t])\r?\n", text, re.IGNORECASE)  # how Excel names its separator
    text = text[stated.end() :] if stated else text
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    separator = stated[1] if stated else max(SEPARATORS, key=lambda s: len(_split(first, s)))
    if separator not in first:
        words = [_split(line.strip(), " ") for line in lines if line.strip()]
        words = [[w for w in line if w] for line in words]
        counts = {len(line) for line in words[1:]}
        columns = {len(words[0]) + 1} if _numbered(words[1:]) else {len(words[0])}
        if len(counts) == 1 and len(words[0]) > 1 and counts <= columns | {len(words[0])}:
            return words
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error:
        return [_split(line, separator) for line in lines]
    if separator == "\t" and any("\n" in cell or "\r" in cell for row in rows for cell in row):
        return [_split(line, separator) for line in lines]  # BIDS has no cells of several lines
    return rows


def _numbered(lines: list[list[str]]) -> bool:
    """Whether each line begins with its number, as R writes tables."""
    return bool(lines) and all(line[0] == str(i) for i, line in enumerate(lines, start=1))


def _split(line: str, separator: str) -> list[str]:
    """One line as cells; its quotes are letters where they quote nothing."""
    try:
        return next(csv.reader([line], delimiter=separator, strict=True), [])
    except csv.Error:
        return [cell.strip().strip('"') for cell in line.split(separator)]


def decode(raw: bytes) -> str:
    """Text in UTF-8, in UTF-16 with its mark, or else in Latin-1."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
