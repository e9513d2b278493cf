"""The same file under two participants: noticed, never silently counted as two people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from volta3d.prepare.findings import Finding
from volta3d.prepare.prepared_scan import Outcome
from volta3d.prepare.scan import Scan


def mark_repeats(kept: Sequence[tuple[Scan, Outcome]]) -> list[tuple[Scan, Outcome]]:
    """The scans, with a finding on those whose file another participant has too.

    Folds by subject would put the two copies on both sides. ``audit`` also finds copies that are
    not equal byte for byte.
    """
    owners: dict[str, dict[str, str]] = {}
    for scan, outcome in kept:
        named = owners.setdefault(outcome.source_sha256, {})
        named.setdefault(scan.participant_id, scan.scan_id)
    marked = []
    for scan, outcome in kept:
        others = {
            p: s for p, s in owners[outcome.source_sha256].items() if p != scan.participant_id
        }
        if others:
            finding = Finding(
                "warning",
                "same-image",
                f"Byte for byte the file of {min(others.values())}, another participant",
                "Keep one of them, or give both the same participant_id",
            )
            scan = replace(scan, findings=(*scan.findings, finding))
        marked.append((scan, outcome))
    return marked
