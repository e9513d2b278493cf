"""metrics.jsonl and TensorBoard events, without duplicates after a resume."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from volta3d.files import atomic_file, write_error


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
    """Appends records to ``folder/metrics.jsonl`` and to TensorBoard events in the same folder.

    Args:
        folder: the run folder.
        step: optimiser steps done; records of later steps, written before a crash and not covered
            by a checkpoint, are removed so that nothing is counted twice.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        self.path = folder / "metrics.jsonl"
        kept = [r for r in read_metrics(self.path) if r.get("step", 0) <= step]
        if step == 0:
            kept = []
        with atomic_file(self.path) as temporary:
            temporary.write_text("".join(_line(r) for r in kept), encoding="utf-8")
        self._file = self.path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; numbers also go to TensorBoard under ``kind/name``.

        Raises:
            VoltaError: the disk is full.
        """
        try:
            self._file.write(_line(record))
            self._file.flush()
            for name, value in _numbers(record):
                self._board.add_scalar(f"{record['kind']}/{name}", value, record["step"])
        except OSError as error:
            raise write_error(self.path, error) from error

    def close(self) -> None:
        """Flush and close both."""
        self._file.close()
        self._board.close()


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
