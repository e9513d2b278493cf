"""Raw scans of several paths: each file once, ids that differ, a reason for what is no source."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

from volta3d.errors import CohortError
from volta3d.prepare.findings import Finding
from volta3d.prepare.layouts import discover
from volta3d.prepare.scan import Scan, slug

NO_SOURCE = "no-source"
LONGEST = 40  # characters put before an id


def find_scans(paths: Iterable[Path]) -> tuple[list[Scan], list[tuple[Path, Finding]]]:
    """The scans of NIfTI files, DICOM folders or folders of scans, before any of them is read.

    A file that is given twice, or by itself and in its folder, is taken once. Data sets that would
    give one id to two scans, as ``p1/DICOM`` and ``p2/DICOM`` do, are told apart by the parts of
    their paths that differ: the ids of all their scans and people begin with these (``p1_dicom``).
    They count as two people. The order of the paths matters only where they overlap.

    Returns:
        The scans, and what was left out with the reason: files that a layout refuses, and paths
        that don't exist, cannot be opened or hold no scan (code ``no-source``).

    Raises:
        UsageError: reading needs what isn't installed.
    """
    found: list[tuple[Path, Scan]] = []
    refused: list[tuple[Path, Finding]] = []
    files: set[Path] = set()
    for path in paths:
        try:
            discovery = discover(path)
        except (CohortError, OSError) as error:
            refused.append((path, no_source(path, error)))
            continue
        new = [s for s in discovery.scans if s.source.resolve() not in files]
        files |= {s.source.resolve() for s in new}
        found += [(_folder(path), scan) for scan in new]
        refused += discovery.refused
    return _told_apart(found), list(dict.fromkeys(refused))


def no_source(path: Path, error: CohortError | OSError) -> Finding:
    """Why a path is left out."""
    if isinstance(error, OSError):
        what = f"Cannot be read: {error.strerror or error}"
        return Finding("error", NO_SOURCE, what, "Make it readable, or leave it out")
    elsewhere = error.where not in ("", str(path))
    what = f"{error.what} ({error.where})" if elsewhere else error.what
    return Finding("error", NO_SOURCE, what, error.fix)


def nothing_found(refused: Sequence[tuple[Path, Finding]]) -> CohortError:
    """The error when not one of the paths is a source."""
    path, finding = refused[0]
    many = f"None of the {len(refused)} paths can be used; the first: " if len(refused) > 1 else ""
    return CohortError(f"{many}{finding.what}", where=path, fix=finding.how_to_fix)


def _folder(path: Path) -> Path:
    """What names a data set: the path itself, or the folder of a single file."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - links stay: the names typed are known
    return whole if whole.is_dir() else whole.parent


def _told_apart(found: Sequence[tuple[Path, Scan]]) -> list[Scan]:
    owners: dict[tuple[str, str], set[Path]] = {}
    for folder, scan in found:
        owners.setdefault(_name(scan), set()).add(folder)
    shared = {scan.dataset for _, scan in found if len(owners[_name(scan)]) > 1}
    folders = {name: {f for f, s in found if s.dataset == name} for name in shared}
    prefixes = {name: _prefixes(those) for name, those in folders.items()}
    named = [
        (folder, _renamed(scan, prefixes.get(scan.dataset, {}).get(folder, "")))
        for folder, scan in found
    ]
    return _marked(named)


def _name(scan: Scan) -> tuple[str, str]:
    """What must not be in two folders: an id, or a person who is called as the folder."""
    nameless = scan.participant_id == scan.dataset
    return scan.dataset, (scan.participant_id if nameless else scan.scan_id).casefold()


def _prefixes(folders: Iterable[Path]) -> dict[Path, str]:
    """For each folder the parts of its path in which it differs from the others, as one word."""
    short = _differing({folder: folder.parts for folder in folders})
    words = {f: slug("-".join(p), keep="-")[:LONGEST].rstrip("-") for f, p in short.items() if p}
    counts = Counter(word.casefold() for word in words.values())
    return {
        f: f"{word}-{_mark('/'.join(short[f]))}" if counts[word.casefold()] > 1 else word
        for f, word in words.items()
    }


def _differing(parts: dict[Path, tuple[str, ...]]) -> dict[Path, list[str]]:
    """The parts that are not common to all; of paths of unlike depth, those between the ends."""
    if len({len(p) for p in parts.values()}) == 1:
        columns = list(zip(*parts.values(), strict=True))
        places = [i for i, column in enumerate(columns) if len(set(column)) > 1]
        return {f: [p[i] for i in places] for f, p in parts.items()}
    start = _common(parts.values())
    ends = {f: p[start:] for f, p in parts.items()}
    end = _common(p[::-1] for p in ends.values())
    return {f: list(p[: len(p) - end]) for f, p in ends.items()}


def _common(rows: Iterable[tuple[str, ...]]) -> int:
    """How many parts all begin with."""
    columns = zip(*rows, strict=False)
    return len(list(takewhile(lambda column: len(set(column)) == 1, columns)))


def _renamed(scan: Scan, prefix: str) -> Scan:
    if not prefix:
        return scan
    person = scan.participant_id.removeprefix("sub-")
    sub = "sub-" if person != scan.participant_id else ""
    return replace(
        scan, scan_id=f"{prefix}_{scan.scan_id}", participant_id=f"{sub}{prefix}-{person}"
    )


def _marked(named: Sequence[tuple[Path, Scan]]) -> list[Scan]:
    """Scans with a part of a hash behind an id that two have still, by their places."""
    counts = Counter(scan.scan_id.casefold() for _, scan in named)
    root = os.path.commonpath([folder for folder, _ in named]) if named else ""
    return [
        replace(s, scan_id=f"{s.scan_id}-{_mark(os.path.relpath(s.source, root))}")
        if counts[s.scan_id.casefold()] > 1
        else s
        for _, s in named
    ]


def _mark(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
