"""One file per archive layout. Each has ``matches(root)`` and ``discover(root) -> Discovery``.

Adding an archive is adding a file with these two functions and a line to ``LAYOUTS``.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from volta3d.errors import CohortError, UsageError, nearest
from volta3d.prepare.layouts import bids, dicom, folder
from volta3d.prepare.scan import Discovery

LAYOUTS: dict[str, ModuleType] = {
    "bids": bids,
    "folder": folder,
    "dicom": dicom,
}  # tried in this order


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


def discover(path: Path, layout: str | None = None) -> Discovery:
    """The scans of one source.

    Args:
        path: a folder, or a single file.
        layout: a name of ``LAYOUTS``, or None to detect it.

    Raises:
        UsageError: an unknown layout.
        CohortError: the source does not exist or holds no T1w scan.
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
    return found
