"""What only a whole cohort shows: skull-stripped brains among whole heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from volta3d.prepare.findings import Finding
from volta3d.prepare.prepared_scan import Outcome
from volta3d.prepare.scan import Scan

FIX = "Strip all of them (--set skull_strip=deepbet), or prepare the two kinds separately"


def mark_mixtures(
    kept: Sequence[tuple[Scan, Outcome]], facts: Mapping[str, Mapping[str, Any]]
) -> list[tuple[Scan, Outcome]]:
    """The scans, each with a warning where some are skull-stripped and some are whole heads.

    Args:
        kept: scans with their outcomes.
        facts: of every prepared scan, by its key.
    """
    kinds = [facts[outcome.key].get("stripping", "") for _, outcome in kept]
    stripped, whole = kinds.count("stripped"), kinds.count("whole")
    if not stripped or not whole:
        return list(kept)
    what = f"{stripped} scans of the cohort are skull-stripped and {whole} show the whole head"
    mixed = Finding("warning", "mixed-stripping", what, FIX)
    return [(replace(s, findings=(*s.findings, mixed)), outcome) for s, outcome in kept]
