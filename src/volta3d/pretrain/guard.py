"""Alarms: the signs of collapse, each with its limit (METHOD section 10)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Alarm:
    """A monitored value that crossed its limit."""

    name: str
    value: float
    limit: float
    what: str

    def record(self) -> dict[str, Any]:
        """For metrics.jsonl."""
        return {"kind": "alarm", **vars(self)}


MIN_SCANS = 64  # fewer say too little about a cohort's spread


def alarms(monitor: dict[str, Any], *, scans: int, standardised: bool = False) -> list[Alarm]:
    """The alarms that one epoch's monitors raise.

    Args:
        monitor: the epoch record of metrics.jsonl.
        scans: how many scans it was computed on; fewer than 64 raise nothing.
        standardised: whether the bottleneck is; what all features share is then subtracted before
            the head, so that their cosine says nothing.

    Source: METHOD section 10, "Alarms".
    """
    if scans < MIN_SCANS:
        return []
    found = []

    def below(name: str, limit: float, what: str) -> None:
        value = _get(monitor, name)
        if value is not None and value < limit:
            found.append(Alarm(name, value, limit, what))

    def above(name: str, limit: float, what: str) -> None:
        value = _get(monitor, name)
        if value is not None and value > limit:
            found.append(Alarm(name, value, limit, what))

    below("information", 0.05, "the teacher says the same of every scan")
    above("teacher_entropy", 0.98, "the teacher's distributions are uniform")
    below("teacher_entropy", 0.10, "the teacher's distributions are single prototypes")
    if not standardised:
        above("mean_cosine", 0.995, "the features of all scans point the same way")
    above("bottleneck_cosine", 0.995, "the bottleneck of all scans points the same way")
    below("effective_rank", 2.0, "the features span fewer than two directions")
    return found


def _get(monitor: dict[str, Any], name: str) -> float | None:
    value = monitor.get(name)
    return None if value is None or not math.isfinite(value) else float(value)


def finite(values: dict[str, float]) -> list[str]:
    """The names of values that are NaN or infinite."""
    return [name for name, value in values.items() if not math.isfinite(value)]
