"""metrics.jsonl, without duplicates after a resume."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from volta3d.files import atomic_file, write_error
from volta3d.pretrain.tracking import Tracker


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole records; a torn last line (a killed process) is left out."""
    records = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                records.append(record)
    return records


class MetricsLog:
    """Appends records to ``folder/metrics.jsonl``, and their numbers to a tracker.

    Args:
        folder: the run folder.
        step: optimiser steps done; records of later steps, written before a crash and not covered
            by a checkpoint, are removed so that nothing is counted twice.
        tracker: where the numbers go too.
    """

    def __init__(self, folder: Path, *, step: int, tracker: Tracker | None = None) -> None:
        self.path = folder / "metrics.jsonl"
        kept = [r for r in read_metrics(self.path) if r.get("step", 0) <= step]
        if step == 0:
            kept = []
        with atomic_file(self.path) as temporary:
            temporary.write_text("".join(_line(r) for r in kept), encoding="utf-8")
        self._file = self.path.open("a", encoding="utf-8")
        self._tracker = tracker

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; its numbers also go to the tracker as ``kind/name``.

        Raises:
            VoltaError: the disk is full.
        """
        try:
            self._file.write(_line(record))
            self._file.flush()
            if self._tracker:
                numbers = [(f"{record['kind']}/{name}", v) for name, v in _numbers(record)]
                self._tracker.write(numbers, record["step"])
        except OSError as error:
            raise write_error(self.path, error) from error

    def close(self) -> None:
        """Flush and close both."""
        self._file.close()
        if self._tracker:
            self._tracker.close()


def _line(record: dict[str, Any]) -> str:
    return json.dumps(_plain(record), allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no NaN
    return value


def _numbers(record: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found = []
    for name, value in record.items():
        if isinstance(value, dict):
            found += _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name not in ("step", "kind"):
            found.append((f"{prefix}{name}", float(value)))
    return found
