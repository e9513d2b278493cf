"""All jobs of a classification done: the tables of predictions, and each arm's metrics.jsonl."""

from __future__ import annotations

from pathlib import Path

from volta3d import __version__
from volta3d.cohort.store import Cohort
from volta3d.downstream.classification.labels import Labelled
from volta3d.downstream.classification.predictions import (
    INNER,
    PREDICTIONS,
    table_of,
    write_predictions,
)
from volta3d.grid.gather import complete, records_of, write_metrics
from volta3d.grid.run_folder import read_run
from volta3d.ledger import Ledger
from volta3d.statistics.splits import Splits


def gather(run: Path, ledger: Ledger, labelled: Labelled, splits: Splits, cohort: Cohort) -> None:
    """Write them out of all finished jobs."""
    content = read_run(run)
    arms = list(content["arms"])
    records = records_of(ledger, arms)
    tested, incomplete = complete(records, splits.folds)
    about = {
        "kind": labelled.kind,
        "target": labelled.target,
        "labels": list(labelled.labels),
        "folds": splits.folds,
        "folds_hash": splits.hash,
        "cohort_hash": cohort.hash(),
        "synthetic": cohort.contract.synthetic,
        "dropped": len(labelled.dropped),
        "incomplete": incomplete,
        "arms": content["arms"],
        "settings": content["settings"],
        "software": f"volta3d {__version__}",
    }
    for part, file in (("test", PREDICTIONS), ("inner", INNER)):
        if any(r[part]["scan_id"] for r in tested):
            write_predictions(run / file, table_of(tested, labelled, part), {**about, "part": part})
    for arm in arms:
        lines = [
            {"kind": "epoch", "seed": r["seed"], "fraction": r["fraction"], "fold": r["fold"]}
            | entry
            for r in records
            if r["arm"] == arm
            for entry in r["history"]
        ]
        write_metrics(run, arm, lines)
