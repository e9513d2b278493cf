"""Excel workbooks, old (.xls) and new (.xlsx): the first sheet as text."""

from __future__ import annotations

import datetime
import io
from pathlib import Path

from volta3d.errors import CohortError

WORKBOOKS = (".xls", ".xlsx", ".xlsm", ".ods")
LARGEST = 50 * 2**20  # bytes; a table of people is a thousand times smaller
FIX = "Save the sheet as CSV and name the file the same but for its ending"


def read_workbook(path: Path) -> list[list[str]]:
    """The cells of the first sheet, whole numbers without a fraction, dates as 2006-11-02.

    Raises:
        CohortError: not a readable workbook.
    """
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        raw = path.read_bytes()
        if len(raw) > LARGEST:
            raise ValueError(f"{len(raw)} bytes")
        with CalamineWorkbook.from_filelike(io.BytesIO(raw)) as book:
            rows = book.get_sheet_by_index(0).to_python()
    except (OSError, ValueError, CalamineError) as error:
        raise CohortError(f"A table cannot be read: {error}", where=path, fix=FIX) from error
    return [[_text(cell) for cell in row] for row in rows]


def _text(cell: object) -> str:
    if isinstance(cell, datetime.datetime):
        return cell.date().isoformat()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return repr(cell) if isinstance(cell, float) else str(cell)
