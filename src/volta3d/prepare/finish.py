"""From what became of every scan to a sealed cohort, and what is said about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from volta3d.cohort.contract import Contract
from volta3d.errors import CohortError
from volta3d.prepare.assemble import (
    KEYS,
    Tables,
    assemble,
    publish,
    read_facts,
    read_records,
    unpack,
)
from volta3d.prepare.findings import Finding
from volta3d.prepare.formats import NIFTI, ending
from volta3d.prepare.mixtures import mark_mixtures
from volta3d.prepare.prepared_scan import Outcome
from volta3d.prepare.privacy import Pseudonymiser
from volta3d.prepare.repeats import mark_repeats
from volta3d.prepare.rows import findings_table, participants_table, quarantine_table
from volta3d.prepare.scan import Scan
from volta3d.prepare.workspace import WORK, Workspace


@dataclass(frozen=True)
class PrepareResult:
    """What ``prepare`` did.

    Args:
        cohort: its folder.
        prepared: scans prepared now.
        skipped: scans that were there already.
        quarantined: files that are no scan of the cohort; see ``quarantine.tsv``.
        findings: how many scans of the cohort each finding concerns, by its code.
        reasons: how many files were left out, by the code of the reason.
        warned: how many scans have a warning.
        warnings: how many scans each warning concerns, by its code.
        formats: how many scans came from other formats than NIfTI and DICOM, by their endings.
    """

    cohort: Path
    prepared: int
    skipped: int
    quarantined: int
    findings: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    warned: int = 0
    warnings: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)


def finish(
    work: Workspace,
    done: Sequence[tuple[Scan, Outcome]],
    refused: Sequence[tuple[Path, Finding]],
    contract: Contract,
    pseudonymiser: Pseudonymiser | None = None,
) -> PrepareResult:
    """Assemble, publish and seal the cohort, unless it is there already just so.

    Args:
        work: with the prepared scans.
        done: every scan, and what became of it.
        refused: what was left out before.
        contract: signed.
        pseudonymiser: hides names in everything that is written.

    Raises:
        CohortError: not one scan could be prepared.
        VoltaError: it cannot be written.
    """
    pieces, old = work.out / WORK / "pieces", work.old
    refused = [*refused, *((s.source, o.refused) for s, o in done if o.refused)]
    refused = pseudonymiser.refused(refused) if pseudonymiser else refused
    kept = mark_repeats([(s, o) for s, o in done if o.refused is None])
    if not kept:
        raise _nothing(work.out, refused)
    records = read_records(old) if old else []
    facts = {r["key"]: r for r in records}
    facts |= {o.key: read_facts(pieces / o.key) for _, o in kept if o.key not in facts}
    kept = mark_mixtures(kept, facts)
    participants, counts = participants_table(kept, facts, work.out)
    findings = findings_table(kept, facts)
    quarantine = quarantine_table(refused, None if pseudonymiser else work.out)
    if pseudonymiser is not None:
        participants = pseudonymiser.participants(participants)
        findings = pseudonymiser.findings(findings)
    same = (
        old is not None
        and old.contract == contract
        and old.participants.equals(participants)
        and old.quarantine.equals(quarantine)
    )
    if not same:
        if old is not None:
            unpack(old, records, pieces)
        built = work.out / WORK / "cohort"
        tables = Tables(participants, quarantine, findings)
        assemble(built, [pieces / o.key for _, o in kept], contract, tables)
        if pseudonymiser is not None:
            pseudonymiser.records(built / KEYS)
        publish(built, work.out, contract, participants)
    if pseudonymiser is not None:
        pseudonymiser.save()
    fresh = sum(o.fresh for _, o in kept)
    warned, warnings = _warnings(findings)
    formats = Counter(ending(s.source) for s, _ in kept if s.series is None)
    return PrepareResult(
        work.out,
        fresh,
        len(kept) - fresh,
        len(refused),
        dict(counts),
        dict(Counter(f.code for _, f in refused)),
        warned,
        warnings,
        {kind: n for kind, n in formats.items() if kind not in NIFTI},
    )


def _warnings(findings: pd.DataFrame) -> tuple[int, dict[str, int]]:
    """How many scans have a warning, and how many each concerns, the commonest first."""
    given = findings[findings["level"] == "warning"].drop_duplicates(["scan_id", "code"])
    counts = Counter(given["code"].tolist())
    return int(given["scan_id"].nunique()), dict(counts.most_common())


def _nothing(out: Path, refused: Sequence[tuple[Path, Finding]]) -> CohortError:
    codes = Counter(f.code for _, f in refused)
    path, first = refused[0]
    return CohortError(
        f"None of the {len(refused)} scans could be prepared "
        f"({', '.join(f'{n} {code}' for code, n in codes.most_common())}); "
        f"the first, {path}: {first.what}",
        where=out,
        fix=first.how_to_fix,
    )
