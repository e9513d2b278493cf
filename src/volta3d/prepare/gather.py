"""The scans of all sources together, and the contract they will be prepared under."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from volta3d.cohort.contract import Contract
from volta3d.config import PrepareConfig
from volta3d.errors import CohortError
from volta3d.prepare.findings import Finding
from volta3d.prepare.layouts import discover, free_name, renamed
from volta3d.prepare.scan import Scan, label_files_of, slug

MIXED = Finding(
    "warning",
    "mixed-synthetic",
    "Synthetic and real scans in one cohort",
    "Prepare them into separate cohorts unless this is meant",
)
SYNTHETIC = Finding("info", "synthetic", "Not a real scan")


def gather(
    sources: Sequence[Path | str], layout: str | None = None, table: Path | None = None
) -> tuple[list[Scan], list[tuple[Path, Finding]]]:
    """Each file once; data sets of one name told apart; synthetic scans marked as such.

    Raises:
        UsageError: an unknown layout.
        CohortError: no source, or one that is missing or without a T1w scan.
    """
    if not sources:
        raise CohortError("No source given", fix="Name at least one folder of scans")
    scans: list[Scan] = []
    refused: list[tuple[Path, Finding]] = []
    files: set[Path] = set()
    names: set[str] = set()
    for source in sources:
        discovery = discover(Path(source), layout, table)
        refused += discovery.refused
        new = [s for s in discovery.scans if s.source.resolve() not in files]
        files |= {s.source.resolve() for s in new}
        named = {d: free_name(d, names) for d in sorted({s.dataset for s in new})}
        names |= set(named.values())
        scans += [renamed(scan, named[scan.dataset]) for scan in new]
    scans = [replace(s, findings=(*s.findings, SYNTHETIC)) if s.synthetic else s for s in scans]
    if len({s.synthetic for s in scans}) == 2:
        scans = [replace(s, findings=(*s.findings, MIXED)) for s in scans]
    return scans, refused


def sign(
    scans: Sequence[Scan], config: PrepareConfig, landmarks: tuple[float, ...] = ()
) -> Contract:
    """The contract for these scans.

    Raises:
        CohortError: a label value that means different things in two data sets.
    """
    names: dict[int, str] = {}
    for scan in scans:
        for index, name in scan.label_names.items():
            if slug(names.setdefault(index, name).lower()) != slug(name.lower()):
                raise CohortError(
                    f"Label {index} means '{names[index]}' in one data set and '{name}' in another",
                    where=next(iter(label_files_of(scan.label)), ""),
                    fix="Prepare them into separate cohorts, or make their dseg.tsv agree",
                )
    synthetic = any(s.synthetic for s in scans)
    named = dict(sorted(names.items()))
    return Contract.from_config(config, synthetic=synthetic, label_names=named, landmarks=landmarks)
