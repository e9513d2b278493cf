"""What a source holds that no layout looks at: each with its reason, so that nothing is lost."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from volta3d.prepare.fetched import missing_content
from volta3d.prepare.findings import Finding
from volta3d.prepare.formats import ARCHIVES, CONVERT, NIFTI, READ, ending, unread
from volta3d.prepare.scan import LINK_OUT, within
from volta3d.prepare.walk import is_hidden

Reason = tuple[Path, Finding]
TABLES = {".tsv", ".csv", ".xls", ".xlsx"}
APART = {"derivatives", "sourcedata", "code", "stimuli"}  # hold files of any format, by design
MOST = 50  # rows of one kind; the others are counted


def left_out(
    root: Path, known: Collection[Path], *, reads: Collection[str] = NIFTI
) -> list[Reason]:
    """Folders that may not be read, links that lead out or nowhere, and formats that are not read.

    Args:
        root: a source; a file holds nothing else.
        known: files that are scans or refused already.
        reads: endings that the source's layout looks at.
    """
    found, more = list[Reason](), dict[str, tuple[int, Finding]]()
    counts = Counter[str]()
    for path, finding in _reasons(root, set(known), tuple(reads)):
        kind = finding.code + (ending(path) if finding.code == "other-format" else "")
        counts[kind] += 1
        if counts[kind] <= MOST:
            found.append((path, finding))
        else:
            more[kind] = counts[kind] - MOST, finding
    return found + [(root, _and_more(count, finding)) for count, finding in more.values()]


def seen_formats(root: Path) -> str:
    """The formats of a source without scans, as ``2 .zip, 1 .nrrd``; empty if there is none."""
    counts = Counter(ending(p) for p, f in left_out(root, ()) if f.code == "other-format")
    return ", ".join(f"{n} {kind}" for kind, n in counts.most_common())


def _and_more(count: int, finding: Finding) -> Finding:
    return replace(finding, what=f"And {count} more: {finding.what}")


def _reasons(root: Path, known: set[Path], reads: tuple[str, ...]) -> Iterator[Reason]:
    refusals = list[Reason]()

    def refuse(error: OSError) -> None:
        folder = Path(error.filename or root)
        refusals.append((folder, unreadable(error)))

    for folder, below, names in os.walk(root, onerror=refuse):
        yield from refusals
        refusals.clear()
        here = Path(folder)
        below[:] = sorted(n for n in below if not is_hidden(n))
        apart = bool(APART & set(here.relative_to(root).parts))
        for name in [n for n in below if (here / n).is_symlink()]:
            if not within(here / name, root):
                yield here / name, LINK_OUT
        for name in sorted(n for n in names if not is_hidden(n)):
            path = here / name
            if path not in known and (reason := _reason(path, root, reads, apart=apart)):
                yield path, reason
    yield from refusals


def _reason(path: Path, root: Path, reads: tuple[str, ...], *, apart: bool) -> Finding | None:
    kind = ending(path)
    if path.is_symlink() and (kind or path.suffix.lower() in TABLES or "." not in path.name):
        elsewhere = missing_content(path)
        if elsewhere is not None:
            return elsewhere
        if not within(path, root):
            return LINK_OUT
    if apart or not kind:
        return None
    if kind == ".hdr" or kind in reads:
        return None
    name = unread(path)
    if not name and kind not in READ:
        return None
    return other_format(name, kind)


def other_format(name: str, kind: str) -> Finding:
    """What is said of a file in a format that is not read where it lies."""
    if kind in READ:
        what = f"A {kind} file, which this layout does not read"
        return Finding("error", "other-format", what, "Save it as .nii.gz, or add --layout folder")
    what = f"An archive ({kind}), not unpacked" if name in ARCHIVES else f"{name} ({kind})"
    what += " inside a folder of scans" if name in ARCHIVES else " files are not read"
    fix = CONVERT.get(name, "Unpack it" if name in ARCHIVES else "Save it as .nii.gz")
    return Finding("error", "other-format", what, fix)


def unreadable(error: OSError) -> Finding:
    """What is said of a folder or file that the system does not let us read."""
    what = f"Cannot be read: {error.strerror or type(error).__name__}"
    return Finding("error", "unreadable", what, "Give yourself the right to read it (chmod u+rX)")
