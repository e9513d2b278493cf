"""What lies below a folder, without what people never put there, and without ever raising."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

# what operating systems, network disks and editors leave behind
SYSTEM = frozenset(
    name.lower()
    for name in (
        "__MACOSX", "@eaDir", "#recycle", "#snapshot", "$RECYCLE.BIN", "lost+found",
        "System Volume Information", "Thumbs.db", "desktop.ini",
    )
)  # fmt: skip


def is_hidden(name: str) -> bool:
    """Whether a name is that of a hidden file, such as the ``._scan.nii.gz`` that macOS adds."""
    return name.startswith(".") or name.lower() in SYSTEM


def hidden_below(path: Path, root: Path) -> bool:
    """Whether any part of a path below ``root`` is hidden."""
    return any(is_hidden(part) for part in path.relative_to(root).parts)


def entries(folder: Path) -> list[Path]:
    """What a folder holds, in order, without hidden entries; [] if it cannot be read."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - a list of names, not of objects
    except OSError:
        return []
    return [folder / name for name in sorted(names) if not is_hidden(name)]


def folders(folder: Path) -> list[Path]:
    """The folders that a folder holds, links to folders included."""
    return [path for path in entries(folder) if is_folder(path)]


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; no if that may not be known."""
    try:
        return path.is_dir()
    except OSError:
        return False


def files_below(root: Path, skip: Callable[[str], bool] | None = None) -> Iterator[Path]:
    """Everything below ``root`` that isn't a folder, links to nothing included, in order.

    Links to folders are not followed.

    Args:
        root: a folder.
        skip: names of folders not to look into.
    """
    for folder, below, names in os.walk(root):
        below[:] = sorted(n for n in below if not is_hidden(n) and not (skip and skip(n)))
        for name in sorted(names):
            if not is_hidden(name):
                yield Path(folder) / name
