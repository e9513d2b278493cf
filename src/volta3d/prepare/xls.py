"""Old Excel workbooks (.xls), as archives still hand them out: the first sheet as text."""

from __future__ import annotations

import io
from pathlib import Path

from volta3d.errors import CohortError

LARGEST = 50 * 2**20  # bytes; a table of people is a thousand times smaller
FIX = "Save the sheet as CSV and name the file the same but for its ending"


def read_xls(path: Path) -> list[list[str]]:
    """The cells of the first sheet, whole numbers without a fraction, dates as 2006-11-02.

    Raises:
        CohortError: not a readable workbook.
    """
    import xlrd

    try:
        raw = path.read_bytes()
        if len(raw) > LARGEST:
            raise ValueError(f"{len(raw)} bytes")
        # what the library prints about odd files would land in the user's terminal
        book = xlrd.open_workbook(file_contents=raw, logfile=io.StringIO(), on_demand=True)
        sheet = book.sheet_by_index(0)
        return [[_text(c, book.datemode) for c in sheet.row(r)] for r in range(sheet.nrows)]
    except Exception as error:  # the library raises many kinds on a damaged file
        raise CohortError(f"A table cannot be read: {error}", where=path, fix=FIX) from error


def _text(cell: object, datemode: int) -> str:
    import xlrd

    kind, value = getattr(cell, "ctype", 0), getattr(cell, "value", "")
    if kind == xlrd.XL_CELL_DATE:
        moment = xlrd.xldate_as_datetime(value, datemode)
        return str(moment.date().isoformat())
    if kind == xlrd.XL_CELL_NUMBER:
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    if kind in (xlrd.XL_CELL_ERROR, xlrd.XL_CELL_EMPTY, xlrd.XL_CELL_BLANK):
        return ""
    return str(value)
