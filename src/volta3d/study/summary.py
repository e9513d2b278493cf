"""The end of a study: its tables as one page of text, and its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volta3d.files import write_text
from volta3d.report import report
from volta3d.study.jobs import Place
from volta3d.study.tables import page

TABLES = "RESULTS.md"


def summarise(place: Place, records: Mapping[str, Mapping[str, Any]], command: str) -> Path:
    """Write RESULTS.md and report/ from the artefacts of all jobs.

    Args:
        place: the study and its folder.
        records: job id to what the ledger keeps of it.
        command: that makes the study again.

    Returns:
        index.html of the report.
    """
    config = place.config
    write_text(place.out / TABLES, page(place, records, command))
    trained = [name for name in config.encoders if config.cohorts_of(name)]
    runs = [*(place.task(n) for n in config.tasks), *(place.run(n) for n in trained)]
    first = trained[0] if trained else None
    probes = place.probes(first) if first and config.probes else None
    shown = [
        *(config.cohorts_of(first)[:1] if first else ()),
        *(t.cohort for t in config.tasks.values()),
    ]
    return report(
        runs,
        place.out / "report",
        embeddings=place.features(first) if first else None,
        probes=probes,
        cohort=[place.cohort(name) for name in dict.fromkeys(shown)],
    )
