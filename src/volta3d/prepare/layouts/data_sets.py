"""Data sets inside a folder that is none itself: their roots, and what lies outside of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from volta3d.errors import CohortError
from volta3d.prepare.findings import Finding
from volta3d.prepare.formats import is_image
from volta3d.prepare.walk import files_below, folders

DEPTH = 3  # levels below the folder given
WIDEST = 60  # folders of one level that are looked into: more are subjects, not data sets
NOT_RAW = {"derivatives", "sourcedata", "code", "stimuli"}
MOST = 50
OUTSIDE = Finding(
    "error",
    "outside-data-set",
    "An image outside of the data sets that this folder holds",
    "Give its folder as a source of its own, with --layout folder",
)


def several(path: Path, recognised: Callable[[Path], str]) -> dict[Path, str]:
    """The data sets below a folder with the names of their layouts; {} if there is none.

    Folders of derivatives are looked into only where there is nothing else.

    Raises:
        CohortError: derivatives of several pipelines alone, which hold the same people.
    """
    if path.name in NOT_RAW:
        return _of_derivatives(path, recognised)
    level = [path]
    for _ in range(DEPTH):
        below = [f for folder in level for f in folders(folder)]
        inner = [f for f in below if f.name not in NOT_RAW]
        if len(inner) > WIDEST:
            return {}
        found = {f: name for f in inner if (name := recognised(f))}
        if found:
            return found
        level = inner
    derived = path / "derivatives"
    return _of_derivatives(derived, recognised) if derived.is_dir() else {}


def outside_of(path: Path, roots: Collection[Path]) -> list[tuple[Path, Finding]]:
    """Images below a folder that are in none of its data sets."""
    skipped = {root.resolve() for root in roots}
    strays = [
        p
        for p in files_below(path, skip=lambda name: name in NOT_RAW)
        if is_image(p) and not any(p.resolve().is_relative_to(root) for root in skipped)
    ]
    return [(p, OUTSIDE) for p in strays[:MOST]] + ([(path, OUTSIDE)] if len(strays) > MOST else [])


def _of_derivatives(path: Path, recognised: Callable[[Path], str]) -> dict[Path, str]:
    found: Mapping[Path, str] = {f: name for f in folders(path) if (name := recognised(f))}
    if len(found) > 1:
        raise CohortError(
            f"Derivatives of {len(found)} pipelines ({', '.join(f.name for f in found)}), which "
            "are likely to hold the same people",
            where=path,
            fix="Give the data set above them, or one of them",
        )
    return dict(found)
