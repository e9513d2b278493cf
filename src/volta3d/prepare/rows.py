"""What is known about scans as tables: participants, quarantine, counts of findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from volta3d.cohort.participants import COLUMNS, QUARANTINE_COLUMNS, complete
from volta3d.prepare.findings import Finding
from volta3d.prepare.piece import Outcome
from volta3d.prepare.scan import Scan, label_files_of, plain, plain_path


def participants_table(
    kept: Sequence[tuple[Scan, Outcome]], facts: Mapping[str, Mapping[str, Any]]
) -> tuple[pd.DataFrame, Counter[str]]:
    """One row per prepared scan, and how many scans each finding concerns.

    Args:
        kept: scans with their outcomes, in the order of the cohort.
        facts: of every piece, by its key.
    """
    rows, counts = [], Counter[str]()
    for scan, outcome in kept:
        known = facts[outcome.key]
        codes = [f.code for f in scan.findings] + [f["code"] for f in known["findings"]]
        codes = list(dict.fromkeys(codes))
        counts.update(codes)
        rows.append(
            {
                "scan_id": scan.scan_id,
                "participant_id": scan.participant_id,
                "session": scan.session,
                "dataset": scan.dataset,
                "site": scan.site,
                "sex": scan.sex,
                "age": scan.age,
                "diagnosis": scan.diagnosis,
                "label_file": ";".join(plain_path(p) for p in label_files_of(scan.label)),
                "source": plain_path(scan.source),
                "source_sha256": outcome.source_sha256,
                "foreground_mm3": known["foreground_mm3"],
                "brain_mm3": known["brain_mm3"],
                "findings": ";".join(codes),
            }
        )
    return complete(pd.DataFrame(rows, columns=list(COLUMNS))), counts


def quarantine_table(refused: Sequence[tuple[Path, Finding]]) -> pd.DataFrame:
    """One row per file that could not be prepared, with the way to fix it."""
    rows = [[plain_path(path), f.code, plain(f.what), plain(f.how_to_fix)] for path, f in refused]
    return pd.DataFrame(rows, columns=list(QUARANTINE_COLUMNS), dtype=object)
