"""What is known about scans as tables: participants, quarantine, counts of findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from volta3d.cohort.participants import COLUMNS, QUARANTINE_COLUMNS, complete
from volta3d.cohort.paths import label_parts, located, written_path
from volta3d.prepare.findings import Finding
from volta3d.prepare.prepared_scan import Outcome
from volta3d.prepare.scan import Label, MergedLabel, Scan, plain, plain_path

FINDING_COLUMNS = ("scan_id", "level", "code", "what", "how_to_fix")


def participants_table(
    kept: Sequence[tuple[Scan, Outcome]], facts: Mapping[str, Mapping[str, Any]], cohort: Path
) -> tuple[pd.DataFrame, Counter[str]]:
    """One row per prepared scan, and how many scans each finding concerns.

    Args:
        kept: scans with their outcomes, in the order of the cohort.
        facts: of every piece, by its key.
        cohort: its folder, to which paths of files beside it are relative.
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
                "label_file": label_cell(scan.label, cohort),
                "label_sha256": outcome.label_sha256,
                "source": plain_path(written_path(scan.source, cohort)),
                "source_sha256": outcome.source_sha256,
                "foreground_mm3": known["foreground_mm3"],
                "brain_mm3": known["brain_mm3"],
                "findings": ";".join(codes),
            }
        )
    return complete(pd.DataFrame(rows, columns=list(COLUMNS))), counts


def label_cell(label: Label | None, cohort: Path) -> str:
    """Where a label map lies, as a cell of a table: its path, ``1=PATH;2=PATH`` of one in parts."""
    if isinstance(label, MergedLabel):
        parts = [(value, written_path(path, cohort)) for value, path in label.parts]
        return ";".join(f"{value}={plain_path(path)}" for value, path in parts)
    return "" if label is None else plain_path(written_path(label, cohort))


def label_of_cell(text: str, cohort: Path) -> Label | None:
    """The inverse of ``label_cell``; None for an empty cell. Which values are sides is not kept."""
    parts = label_parts(text)
    if parts:
        return MergedLabel(tuple((value, located(path, cohort)) for value, path in parts))
    return located(Path(text), cohort) if text else None


def findings_table(
    kept: Sequence[tuple[Scan, Outcome]], facts: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """One row per scan and finding, in the order of the cohort: ``FINDING_COLUMNS``."""
    rows = []
    for scan, outcome in kept:
        about = [f.content() for f in scan.findings] + list(facts[outcome.key]["findings"])
        unique = {(f["code"], f["what"]): f for f in about}
        for finding in unique.values():
            texts = [plain(finding[key]) for key in ("what", "how_to_fix")]
            rows.append([scan.scan_id, finding["level"], finding["code"], *texts])
    return pd.DataFrame(rows, columns=list(FINDING_COLUMNS), dtype=object)


def quarantine_table(refused: Sequence[tuple[Path, Finding]], cohort: Path | None) -> pd.DataFrame:
    """One row per file that could not be prepared, with the way to fix it.

    Args:
        refused: files and why.
        cohort: its folder; None where the names of the files are pseudonyms.
    """
    named = [(written_path(path, cohort) if cohort else path, f) for path, f in refused]
    rows = [[plain_path(path), f.code, plain(f.what), plain(f.how_to_fix)] for path, f in named]
    return pd.DataFrame(rows, columns=list(QUARANTINE_COLUMNS), dtype=object)
