"""A folder of jobs, each done once, in any order, by any number of processes, killable anywhere.

A job is a text, such as ``vit/fraction=0.2/seed=1/fold=3``. Its finished record is one JSON file,
published whole. While a process works on it, that process holds a lock which the system frees when
the process dies, however it dies. So what a killed process was working on is simply done again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from volta3d.errors import VoltaError
from volta3d.files import clean_partial, read_json, require_writable, write_json

LONGEST = 80  # characters of a job's name kept in its file name


class Ledger:
    """The jobs done so far, as files of ``folder``.

    Args:
        folder: made if it isn't there.

    Raises:
        VoltaError: the folder cannot be written.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        require_writable(self.folder)

    def record(self, job: str) -> dict[str, Any] | None:
        """What ``finish`` was told of ``job``; None while it isn't done.

        A damaged record counts as none: the job is done again.
        """
        path = self.folder / f"{safe_name(job)}.json"
        try:
            content = read_json(path)
        except VoltaError:
            return None
        if not isinstance(content, dict) or content.get("job") != job:
            return None
        found = content.get("record")
        return found if isinstance(found, dict) else None

    @contextmanager
    def claim(self, job: str) -> Iterator[bool]:
        """Yield True if this process is to do ``job`` now: nobody holds it and it isn't done.

        The claim ends with the block, or with the process.
        """
        lock = FileLock(self.folder / f"{safe_name(job)}.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            # looked up after locking: another process may have finished it just before
            yield self.record(job) is None
        finally:
            lock.release()

    def finish(self, job: str, record: dict[str, Any]) -> None:
        """Publish the record of a job that is done, whole or not at all.

        Args:
            job: the job claimed.
            record: JSON-like, without NaN.

        Raises:
            VoltaError: it cannot be written.
        """
        write_json(self.folder / f"{safe_name(job)}.json", {"job": job, "record": record})

    def done(self, jobs: Iterable[str]) -> list[str]:
        """Those of ``jobs`` that are done, in their order."""
        return [job for job in jobs if self.record(job) is not None]

    def left(self, jobs: Iterable[str]) -> list[str]:
        """Those of ``jobs`` that aren't done, in their order; another process may hold some."""
        return [job for job in jobs if self.record(job) is None]

    def records(self) -> list[dict[str, Any]]:
        """The records of all jobs that are done, whoever did them, in the order of their names."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                content = read_json(path)
            except VoltaError:
                continue
            if isinstance(content, dict) and isinstance(content.get("record"), dict):
                found.append(content["record"])
        return found

    def clean(self) -> list[str]:
        """Remove what killed processes left half-written; only while nobody else is writing."""
        return clean_partial(self.folder)


def safe_name(job: str) -> str:
    """A file name for ``job``: readable, and different for different jobs on any file system."""
    readable = re.sub(r"[^A-Za-z0-9._=-]+", "-", job).strip("-.")[:LONGEST]
    return f"{readable}-{hashlib.sha256(job.encode()).hexdigest()[:12]}"
