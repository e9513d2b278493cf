"""One file per archive layout. Each has ``matches(root)`` and ``discover(root) -> Discovery``.

Adding an archive is adding a file with these two functions, and its name to
``config.prepare.LAYOUT_NAMES``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

from volta3d.config.prepare import LAYOUT_NAMES
from volta3d.errors import CohortError, UsageError, nearest
from volta3d.prepare.fetched import missing_content
from volta3d.prepare.findings import Finding
from volta3d.prepare.formats import NIFTI, READ
from volta3d.prepare.layouts.data_sets import WIDEST, outside_of, several
from volta3d.prepare.layouts.described import described
from volta3d.prepare.left_out import left_out, seen_formats, unreadable
from volta3d.prepare.scan import Discovery, Scan
from volta3d.prepare.sidecar import judged
from volta3d.prepare.walk import folders

LAYOUTS: dict[str, ModuleType] = {
    name: import_module(f"volta3d.prepare.layouts.{name}") for name in LAYOUT_NAMES
}
ANY = ("folder", "dicom")  # take whatever there is
TWINS = Finding(
    "warning",
    "ids-differ-by-case",
    "Two participants of the source differ by nothing but case, and count as two people",
    "If it is one person, give both the same name",
)


def detect(path: Path) -> str:
    """The name of the first layout that recognises ``path``.

    Raises:
        CohortError: it does not exist, may not be read, or nothing recognises it.
    """
    if not path.exists():
        raise CohortError("No such file or folder", where=path, fix="Check the path")
    name = _first(path)
    if name == "folder" and path.is_dir() and LAYOUTS["dicom"].matches(path):
        raise CohortError(
            "Both NIfTI and DICOM files; which of them are the scans is not guessed",
            where=path,
            fix="Add --layout folder or --layout dicom",
        )
    if name:
        return name
    raise _no_scans(path)


def discover(path: Path, layout: str | None = None, table: Path | None = None) -> Discovery:
    """The scans of one source, and everything of it that is left out with the reason.

    Args:
        path: a folder, or a single file. A folder that is no data set itself but holds some, up to
            two levels down, stands for all of them.
        layout: a name of ``LAYOUTS``, or None to detect it.
        table: what is known about the subjects or files; it wins over what the source says.

    Raises:
        UsageError: an unknown layout.
        CohortError: the source does not exist or holds no T1w scan, or a table that fits none.
    """
    if layout is not None and layout not in LAYOUTS:
        raise UsageError("Unknown layout", where=layout, fix=nearest(layout, LAYOUTS))
    found, read_as = _found(path, layout)
    if not found.scans and not found.refused:
        raise CohortError(
            f"No T1w scan found (read as layout '{read_as}')",
            where=path,
            fix="BIDS scans are named sub-*/anat/*_T1w.nii.gz; for any other folder of NIfTI "
            "files add --layout folder",
        )
    found = _without_what_is_elsewhere(found)
    if path.is_dir():
        known = {s.source for s in found.scans} | {p for p, _ in found.refused}
        reads = (*NIFTI, *READ) if "folder" in read_as.split("+") else NIFTI
        found = replace(found, refused=(*found.refused, *left_out(path, known, reads=reads)))
    root = path if path.is_dir() else path.parent
    scans = found.scans if table is None else described(found.scans, table, root)
    return replace(found, scans=_told_apart(scans))


def _first(path: Path, names: Sequence[str] = ()) -> str:
    """The first of some layouts, or of all, that recognises a path; empty if none does."""
    return next((name for name in names or LAYOUTS if _matches(name, path)), "")


def _holds_others(path: Path, top: str, archives: Sequence[str]) -> bool:
    """Whether what a folder was recognised as is in one folder of it, and another archive beside.

    Some layouts look a level or two down, where other data sets may lie too.
    """
    inner = folders(path)
    if top in ("bids", "harp") or len(inner) > WIDEST:
        return False
    found = {_first(folder, archives) for folder in inner} - {""}
    return top in found and len(found) > 1


def _matches(name: str, path: Path) -> bool:
    try:
        return bool(LAYOUTS[name].matches(path))
    except OSError:  # may not be read; ``left_out`` says so
        return False


def _discovered(name: str, path: Path) -> Discovery:
    try:
        found: Discovery = LAYOUTS[name].discover(path)
    except OSError as error:
        reason = unreadable(error)
        where = error.filename or path
        raise CohortError(reason.what, where=where, fix=reason.how_to_fix) from error
    return found


def _found(path: Path, layout: str | None) -> tuple[Discovery, str]:
    """What the layout of a source finds, or those of the data sets that it holds."""
    archives = [name for name in LAYOUTS if name not in ANY and layout in (None, name)]
    if layout is not None and path.exists():
        found = _discovered(layout, path)
        if found.scans or found.refused or not archives:
            return found, layout
    top = _first(path, archives) if path.is_dir() else ""
    if path.is_dir() and (not top or _holds_others(path, top, archives)):
        roots = several(path, lambda folder: _first(folder, archives))
        if roots:
            parts = [_discovered(name, root) for root, name in roots.items()]
            refused = [r for part in parts for r in part.refused]
            refused += outside_of(path, roots)
            scans = tuple(s for part in _named_apart(parts) for s in part)
            return Discovery(scans, tuple(refused)), "+".join(sorted(set(roots.values())))
    name = layout if layout is not None and path.exists() else detect(path)
    return _discovered(name, path), name


def _named_apart(parts: Sequence[Discovery]) -> list[tuple[Scan, ...]]:
    """Scans of several data sets; those of a second one of the same name get a number."""
    taken, named = set[str](), []
    for part in parts:
        new = {d: free_name(d, taken) for d in sorted({s.dataset for s in part.scans})}
        taken |= set(new.values())
        named.append(tuple(renamed(s, new[s.dataset]) for s in part.scans))
    return named


def renamed(scan: Scan, dataset: str) -> Scan:
    """A scan of a data set under another name."""
    scan_id = dataset + scan.scan_id.removeprefix(scan.dataset)
    return replace(scan, dataset=dataset, scan_id=scan_id)


def free_name(name: str, taken: set[str]) -> str:
    """A name that is not taken, with a number behind it if need be."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _without_what_is_elsewhere(found: Discovery) -> Discovery:
    """Scans whose content is there and whose JSON file says nothing against them."""
    scans, refused = list[Scan](), list(found.refused)
    for scan in found.scans:
        judgement, reason = judged(scan)
        if scan.series is None and scan.source.is_symlink():
            reason = missing_content(scan.source) or reason
        if reason is None:
            scans.append(judgement)
        else:
            refused.append((scan.source, reason))
    return Discovery(tuple(scans), tuple(refused))


def _no_scans(path: Path) -> CohortError:
    if path.is_dir() and (seen := seen_formats(path)):
        each = ", or give each .zip as a source of its own" if ".zip" in seen else ""
        return CohortError(
            f"No scans in a format that is read; the folder holds {seen}",
            where=path,
            fix=f"Unpack archives{each}; save other formats as .nii.gz",
        )
    return CohortError(
        "No scans found",
        where=path,
        fix="Give a BIDS folder with *_T1w.nii.gz files, a folder with NIfTI files (.nii.gz), or "
        "a folder or zip with DICOM files",
    )


def _told_apart(scans: Sequence[Scan]) -> tuple[Scan, ...]:
    names: dict[str, set[str]] = {}
    for scan in scans:
        names.setdefault(scan.participant_id.casefold(), set()).add(scan.participant_id)
    return tuple(
        replace(s, findings=(*s.findings, TWINS))
        if len(names[s.participant_id.casefold()]) > 1
        else s
        for s in scans
    )
