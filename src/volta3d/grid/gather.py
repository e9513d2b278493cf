"""What all finished jobs of a run folder came to, whichever call did them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from volta3d.artefacts import LOG, arm_folder
from volta3d.files import write_text
from volta3d.grid.job import Job
from volta3d.ledger import Ledger
from volta3d.statistics.splits import FINAL

Record = Mapping[str, Any]


def records_of(ledger: Ledger, arms: Sequence[str]) -> list[Record]:
    """The records of all jobs of these arms, each once: by arm, falling fraction, seed, fold."""
    found = {Job.of(r): r for r in ledger.records() if r.get("arm") in arms}
    order = sorted(found, key=lambda j: (arms.index(j.arm), -j.fraction, j.seed, j.fold))
    return [found[job] for job in order]


def complete(records: Sequence[Record], folds: int) -> tuple[list[Record], list[str]]:
    """The tested records of which every fold is there; and what a stopped call left unfinished.

    A score over some of the folds would be one over other scans.
    """
    tested = [(Job.of(r), r) for r in records if int(r["fold"]) != FINAL]
    counts = Counter((j.arm, j.fraction, j.seed) for j, _ in tested)
    whole = {key for key, count in counts.items() if count == folds}
    partial = [f"{a}, fraction {f:g}, seed {s}" for a, f, s in counts if (a, f, s) not in whole]
    return [r for j, r in tested if (j.arm, j.fraction, j.seed) in whole], partial


def write_metrics(run: Path, arm: str, lines: Iterable[Mapping[str, Any]]) -> None:
    """An arm's metrics.jsonl: one line an epoch and job."""
    text = "".join(f"{json.dumps(dict(line), allow_nan=False)}\n" for line in lines)
    write_text(arm_folder(run, arm) / LOG, text)
