"""The run folder of ``classify``: described before, gathered after, guarded in between."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from volta3d import __version__
from volta3d.cohort.store import Cohort
from volta3d.config import ClassifyConfig, parse_yaml, read_yaml
from volta3d.downstream.arms import changed_arms
from volta3d.downstream.classification.contestants import Contestant
from volta3d.downstream.classification.labels import Labelled
from volta3d.downstream.classification.predictions import (
    INNER,
    PREDICTIONS,
    table_of,
    write_predictions,
)
from volta3d.errors import CheckpointError
from volta3d.files import require_writable, write_text
from volta3d.ledger import Ledger
from volta3d.statistics.splits import FINAL, Splits, read_splits

CONFIG, FOLDS = "config.yaml", "folds.json"


def gather(run: Path, ledger: Ledger, labelled: Labelled, splits: Splits, cohort: Cohort) -> None:
    """The tables of predictions and each arm's metrics.jsonl, out of all finished jobs."""
    content = parse_yaml(read_yaml(run / CONFIG), where=run / CONFIG)
    arms = list(content["arms"])
    records = sorted(
        (r for r in ledger.records() if r["arm"] in arms),
        key=lambda r: (arms.index(r["arm"]), -r["fraction"], r["seed"], r["fold"]),
    )
    tested, incomplete = _complete([r for r in records if r["fold"] != FINAL], splits.folds)
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
            json.dumps({"kind": "epoch", **keys, **entry}, allow_nan=False)
            for r in records
            if r["arm"] == arm
            for keys in [{k: r[k] for k in ("seed", "fraction", "fold")}]
            for entry in r["history"]
        ]
        write_text(run / "arms" / arm / "metrics.jsonl", "".join(f"{line}\n" for line in lines))


def _complete(records: list[dict[str, Any]], folds: int) -> tuple[list[dict[str, Any]], list[str]]:
    """The records of which every fold is there; and what an earlier, stopped call left unfinished.

    A score over some of the folds would be one over other scans.
    """
    counts = Counter((r["arm"], r["fraction"], r["seed"]) for r in records)
    whole = {key for key, count in counts.items() if count == folds}
    partial = [f"{a}, fraction {f:g}, seed {s}" for a, f, s in counts if (a, f, s) not in whole]
    return [r for r in records if (r["arm"], r["fraction"], r["seed"]) in whole], partial


def describe(
    run: Path,
    contestants: list[Contestant],
    labelled: Labelled,
    cohort: Cohort,
    splits: Splits,
    config: ClassifyConfig,
) -> Splits:
    """Write config.yaml and folds.json, or check that they are those of this call."""
    require_writable(run)
    declared = {c.name: c.declared() for c in contestants}
    content: dict[str, Any] = {
        "command": "classify",
        "software": f"volta3d {__version__}",
        "target": labelled.target,
        "kind": labelled.kind,
        "labels": list(labelled.labels),
        "cohort": {"hash": cohort.hash(), "scans": len(cohort), "labelled": len(labelled.rows)},
        "labels_hash": labelled.hash,
        "folds_hash": splits.hash,
        "arms": declared,
        "settings": config.content(),
    }
    if (run / CONFIG).is_file():
        before = parse_yaml(read_yaml(run / CONFIG), where=run / CONFIG)
        _same(run, before, content)
        content["arms"] = {**before["arms"], **declared}
        splits = _with_stored(run, splits)
    splits.write(run / FOLDS)
    write_text(run / CONFIG, yaml.safe_dump(content, sort_keys=False))
    return splits


def _same(run: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with another experiment, saying what differs.

    Raises:
        CheckpointError: it does.
    """
    differs = []
    for key in ("target", "kind", "labels", "cohort", "labels_hash", "folds_hash"):
        if before.get(key) != now[key]:
            differs.append(f"{key}: {before.get(key)} -> {now[key]}")
    stated, wanted = before.get("settings", {}), now["settings"]
    free = set(wanted) - set(ClassifyConfig(**wanted).science())
    differs += [
        f"{key}: {stated.get(key)} -> {wanted[key]}"
        for key in wanted
        if key not in free and stated.get(key) != wanted[key]
    ]
    differs += changed_arms(before.get("arms", {}), now["arms"])
    if differs:
        raise CheckpointError(
            f"The run folder holds another experiment (there -> here): {'; '.join(differs)}",
            where=run,
            fix="Choose another --out, or repeat the settings it was started with",
        )


def _with_stored(run: Path, splits: Splits) -> Splits:
    """The folds with the orders of all seeds there ever were.

    Raises:
        CheckpointError: those of the run folder are others.
    """
    stored = read_splits(run / FOLDS)
    shared = set(stored.orders) & set(splits.orders)
    if any(stored.orders[s] != splits.orders[s] for s in shared) or stored.hash != splits.hash:
        raise CheckpointError(
            "The folds of the run folder are not those of this call",
            where=run / FOLDS,
            fix="Choose another --out",
        )
    return replace(splits, orders={**stored.orders, **splits.orders})
