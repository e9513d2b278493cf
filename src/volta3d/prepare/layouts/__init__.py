"""One file per archive layout. Each has ``matches(root)`` and ``discover(root) -> Discovery``.

Adding an archive is adding a file with these two functions and a line to ``LAYOUTS``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from volta3d.errors import CohortError, UsageError, nearest
from volta3d.prepare.findings import Finding
from volta3d.prepare.layouts import (
    adni,
    aibl,
    bids,
    brats,
    caps,
    dicom,
    folder,
    harp,
    ixi,
    msd,
)
from volta3d.prepare.layouts.described import described
from volta3d.prepare.scan import Discovery, Scan

LAYOUTS: dict[str, ModuleType] = {
    "harp": harp,  # holds an ADNI tree
    "adni": adni,
    "aibl": aibl,
    "brats": brats,
    "msd": msd,
    "caps": caps,
    "bids": bids,
    "ixi": ixi,
    "folder": folder,
    "dicom": dicom,
}  # tried in this order
TWINS = Finding(
    "warning",
    "ids-differ-by-case",
    "Two participants of the source differ by nothing but case, and count as two people",
    "If it is one person, give both the same name",
)


def detect(path: Path) -> str:
    """The name of the first layout that recognises ``path``.

    Raises:
        CohortError: it does not exist, or nothing recognises it.
    """
    if not path.exists():
        raise CohortError("No such file or folder", where=path, fix="Check the path")
    for name, layout in LAYOUTS.items():
        if layout.matches(path):
            if name == "folder" and path.is_dir() and dicom.matches(path):
                raise CohortError(
                    "Both NIfTI and DICOM files; which of them are the scans is not guessed",
                    where=path,
                    fix="Add --layout folder or --layout dicom",
                )
            return name
    raise CohortError(
        "No scans found",
        where=path,
        fix="Give a BIDS folder with *_T1w.nii.gz files, a folder with NIfTI files (.nii.gz), or "
        "a folder or zip with DICOM files",
    )


def discover(path: Path, layout: str | None = None, table: Path | None = None) -> Discovery:
    """The scans of one source.

    Args:
        path: a folder, or a single file.
        layout: a name of ``LAYOUTS``, or None to detect it.
        table: what is known about the subjects or files; it wins over what the source says.

    Raises:
        UsageError: an unknown layout.
        CohortError: the source does not exist or holds no T1w scan, or a table that fits none.
    """
    if layout is not None and layout not in LAYOUTS:
        raise UsageError("Unknown layout", where=layout, fix=nearest(layout, LAYOUTS))
    detected = detect(path) if layout is None or not path.exists() else layout
    found: Discovery = LAYOUTS[detected].discover(path)
    if not found.scans and not found.refused:
        raise CohortError(
            f"No T1w scan found (read as layout '{detected}')",
            where=path,
            fix="BIDS scans are named sub-*/anat/*_T1w.nii.gz; for any other folder of NIfTI "
            "files add --layout folder",
        )
    root = path if path.is_dir() else path.parent
    scans = found.scans if table is None else described(found.scans, table, root)
    return replace(found, scans=_told_apart(scans))


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
