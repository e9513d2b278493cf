"""Tables of an archive that lie inside its tree, in a folder of it, or beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from volta3d.prepare.tables import table_columns
from volta3d.prepare.workbook import WORKBOOKS

ENDINGS = {".csv", ".tsv", *WORKBOOKS}
MOST = 500  # entries of a folder that are looked at: tables lie on top, not under a thousand scans
Wanted = Callable[[str, frozenset[str]], bool]


def near_tables(
    root: Path, wanted: Wanted, *, skip: Callable[[str], bool] | None = None
) -> list[Path]:
    """Tables that are wanted, nearest first: in ``root``, in its folders and theirs, beside it.

    Args:
        root: of a source.
        wanted: says from a file name in lower case and its columns whether a table is wanted; the
            columns are empty for a workbook.
        skip: folders not to look into, e.g. those of subjects, by their names.
    """
    places: list[Iterator[Path]] = [_files(root)]
    inner = _folders(root, skip)
    inner += [below for folder in inner for below in _folders(folder, skip)]
    places += [_files(folder) for folder in inner[:MOST]]
    places.append(_files(root.resolve().parent))
    found = []
    for path in chain.from_iterable(places):
        if wanted(path.name.lower(), table_columns(path)):
            found.append(path)
    return found


def _folders(folder: Path, skip: Callable[[str], bool] | None) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    return [p for p in entries if p.is_dir() and not (skip and skip(p.name))][:MOST]


def _files(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for path in entries:
        if path.suffix.lower() in ENDINGS and path.is_file() and not path.name.startswith("."):
            yield path
