"""One preparation per output folder at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from volta3d.errors import CohortError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; the system frees it if this process dies.

    Raises:
        CohortError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise CohortError(
            "Another process is preparing into this folder",
            where=folder.parent,
            fix="Wait for it, or name another folder with --out",
        ) from error
    try:
        yield
    finally:
        lock.release()
