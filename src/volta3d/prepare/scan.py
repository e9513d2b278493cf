"""What a layout says about one scan, before the scan itself is opened."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from volta3d.prepare.findings import Finding

if TYPE_CHECKING:
    from volta3d.prepare.dicom.series import Series

LONGEST = 120


@dataclass(frozen=True)
class MergedLabel:
    """One label map that is kept in several files, each of them a mask of one structure.

    Args:
        parts: the value that the voxels of a mask get, and its file.
        sides: the values of the right and of the left structure, when that is what the masks are:
            a right one that does not lie to the right of the left one is refused.
    """

    parts: tuple[tuple[int, Path], ...]
    sides: tuple[int, int] | None = None


Label = Path | MergedLabel


def label_files_of(label: Label | None) -> tuple[Path, ...]:
    """The files of a label map; none without one."""
    if isinstance(label, MergedLabel):
        return tuple(path for _, path in label.parts)
    return () if label is None else (label,)


@dataclass(frozen=True)
class Scan:
    """One T1w scan of a source.

    Args:
        source: its file, or the first of its DICOM files.
        scan_id: ``<dataset>_<participant>[_<session>][_<run>...]``, safe as a file name.
        participant_id: the same for all scans of one person within the data set.
        session, dataset, site, diagnosis: text, empty when unknown.
        sex: M, F or empty.
        age: years, NaN when unknown.
        label: its label map, if it has one.
        label_names: names of the label map's values.
        synthetic: whether its data set says that it is not a real scan.
        findings: what the layout noticed.
        series: the DICOM series it is converted from when it is opened (``prepare.source``).
    """

    source: Path
    scan_id: str
    participant_id: str
    session: str = ""
    run: str = ""
    dataset: str = ""
    site: str = ""
    sex: str = ""
    age: float = math.nan
    diagnosis: str = ""
    label: Label | None = None
    label_names: Mapping[int, str] = field(default_factory=dict)
    synthetic: bool = False
    findings: tuple[Finding, ...] = ()
    series: Series | None = None


@dataclass(frozen=True)
class Discovery:
    """What a layout found in one source: scans, and files it had to leave out with the reason."""

    scans: tuple[Scan, ...]
    refused: tuple[tuple[Path, Finding], ...] = ()


def slug(text: str, keep: str = "-_") -> str:
    """Text that is safe in every file system: letters, digits and ``keep``; others become -."""
    safe = re.sub(rf"[^A-Za-z0-9{re.escape(keep)}]+", "-", text).strip("-_.")
    return safe[:LONGEST].rstrip("-_.") or "unnamed"


def plain(text: str) -> str:
    """A cell of a table as one line that no spreadsheet takes for a formula."""
    line = " ".join(text.split())
    line = "".join(c for c in line if c.isprintable())
    return "'" + line if line[:1] in {"=", "+", "-", "@"} else line


def plain_path(path: Path) -> str:
    """A path as one line that no spreadsheet takes for a formula."""
    line = "".join(c if c.isprintable() else "?" for c in str(path))
    return "./" + line if line[:1] in {"=", "+", "-", "@"} else line


def unique(scans: Iterable[Scan], root: Path) -> tuple[Scan, ...]:
    """Scans whose ids differ by more than case; a part of a hash is added where they do not."""
    found, taken = [], set[str]()
    for scan in scans:
        if scan.scan_id.casefold() in taken:
            name = scan.source.relative_to(root).as_posix()
            mark = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
            scan = replace(scan, scan_id=f"{scan.scan_id}-{mark}")
        taken.add(scan.scan_id.casefold())
        found.append(scan)
    return tuple(found)


def within(path: Path, root: Path) -> bool:
    """Whether a file, links followed, lies inside its source."""
    return path.resolve().is_relative_to(root.resolve())


LINK_OUT = Finding(
    "error",
    "link-outside",
    "A link that leaves its source folder was not followed",
    "Copy the file into the folder, or give the linked folder as a source",
)
