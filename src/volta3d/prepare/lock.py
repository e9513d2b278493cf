"""One preparation per output folder at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from volta3d.errors import CohortError

try:
    import fcntl
except ImportError:  # Windows has no advisory locks; there two runs are not told apart
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; the system frees it if this process dies.

    Raises:
        CohortError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    try:
        if fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise CohortError(
                    "Another process is preparing into this folder",
                    where=folder.parent,
                    fix="Wait for it, or name another folder with --out",
                ) from error
        yield
    finally:
        os.close(descriptor)
