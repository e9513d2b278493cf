"""Class scores or numbers for new scans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from volta3d import __version__
from volta3d.cohort.participants import QUARANTINE_COLUMNS, write_table
from volta3d.downstream.classification.fitted import FILES, FittedModel, file_hash, load_fitted
from volta3d.downstream.classification.predictions import TOLD, TOLD_ABOUT, score_columns
from volta3d.downstream.predict import PredictResult, Progress
from volta3d.encoder.embed import _device
from volta3d.encoder.source import Source
from volta3d.files import require_writable, sha256, write_json

REFUSED = "refused.tsv"
KNOWN = ("scan_id", "participant_id", "session", "dataset", "source", "findings")


def predict_scores(
    model: Path,
    scans: Sequence[Path],
    out: Path,
    *,
    device: str = "auto",
    progress: Progress | None = None,
) -> PredictResult:
    """Write predictions.tsv, refused.tsv and predictions.json; see ``predict``."""
    fitted = load_fitted(model, _device(device))
    source = Source.open(scans, fitted)
    require_writable(out)
    refused: list[dict[str, str]] = []
    rows: list[dict[str, Any]] = []
    scans_told: list[pd.Series] = []
    for number, scan in enumerate(source.cubes()):
        row, volume = scan.row.iloc[0], scan.volume
        measured = row[fitted.volume_columns].to_numpy(np.float64)
        if not (np.isfinite(measured) & (measured > 0)).all():
            refused.append(_unmeasured(row, fitted))
            continue
        cube = torch.from_numpy(np.ascontiguousarray(volume))[None, None]
        scores = fitted.tell(cube, measured[None])[0]
        rows.append({**{k: row[k] for k in KNOWN}, **_told(fitted, scores)})
        scans_told.append(row)
        if progress is not None:
            progress(number + 1, source.count)
    refused = [*source.refused, *refused]
    if not rows:
        source.refused = refused
        raise source.none_left()
    write_table(out / TOLD, pd.DataFrame(rows))
    write_table(out / REFUSED, pd.DataFrame(refused, columns=list(QUARANTINE_COLUMNS)))
    write_json(
        out / TOLD_ABOUT,
        {
            "software": f"volta3d {__version__}",
            "kind": fitted.config["kind"],
            "target": fitted.config["target"],
            "labels": fitted.labels,
            "threshold": fitted.config.get("threshold"),
            "model_sha256": fitted.config["weights_sha256"],
            "contract_hash": fitted.config["contract_hash"],
            "arm": fitted.config.get("arm", {}),
            "trained_on": _trained_on(fitted),
            **_seen(fitted, source, scans_told),
            "cohorts": [cohort.hash() for cohort in source.cohorts],
            "synthetic": source.synthetic,
            "told": len(rows),
            "refused": len(refused),
            "predictions_sha256": sha256(out / TOLD),
        },
    )
    return PredictResult(out / TOLD, len(rows), tuple(refused), out / REFUSED)


def _trained_on(fitted: FittedModel) -> dict[str, Any]:
    """What the model says of its training, without the hashes, which may be many."""
    trained = fitted.config.get("trained_on", {})
    return {k: v for k, v in trained.items() if k != FILES}


def _seen(fitted: FittedModel, source: Source, rows: Sequence[pd.Series]) -> dict[str, Any]:
    """Which of the scans told of the model was fitted to, as far as it remembers.

    ``fitted`` lists ids of scans: those it was fitted to, and those of which that is ``unknown``;
    ``trained_on_these`` counts the first, None where it cannot be known; ``files`` has the hashes
    by which files are known again.
    """
    trained = fitted.config.get("trained_on", {})
    files = set(trained.get(FILES, ()))
    whole = {
        scan_id
        for cohort in source.cohorts
        if cohort.hash() == trained.get("cohort_hash")
        for scan_id in cohort.scan_ids
    }
    found: dict[str, list[str]] = {"scans": [], "unknown": []}
    for row in rows:
        scan_id, file = str(row["scan_id"]), file_hash(row["source_sha256"])
        comparable = bool(file and files)
        if file in files or (scan_id in whole and not comparable):
            found["scans"].append(scan_id)
        elif not comparable:
            found["unknown"].append(scan_id)
    unknown = found["unknown"] and not found["scans"]
    return {
        "fitted": found,
        "trained_on_these": None if unknown else len(found["scans"]),
        "files": {str(row["scan_id"]): file_hash(row["source_sha256"]) for row in rows},
    }


def told_column(target: str, labels: Sequence[str]) -> str:
    """The column of predictions.tsv that holds what a model says.

    Args:
        target: the model's.
        labels: its classes; empty for numbers.
    """
    taken = target in (*KNOWN, *score_columns(labels))  # the table says that already
    return f"predicted {target}" if taken else target


def _told(fitted: FittedModel, scores: np.ndarray) -> dict[str, Any]:
    """The columns that hold what a model says of one scan."""
    labels = fitted.labels
    names = score_columns(labels)
    target = told_column(fitted.config["target"], labels)
    if not labels:
        return {target: float(scores[0])}
    told: dict[str, Any] = {target: labels[int(scores.argmax())]}
    threshold = fitted.config.get("threshold")
    if threshold is not None:
        told[f"{target} at Youden"] = labels[int(scores[1] >= threshold)]
    values = scores if len(names) > 1 else scores[-1:]
    return told | {name: float(v) for name, v in zip(names, values, strict=True)}


def _unmeasured(row: pd.Series, fitted: FittedModel) -> dict[str, str]:
    return {
        "source": str(row["source"]),
        "code": "no-volume",
        "what": f"Not measured: {', '.join(fitted.volume_columns)}",
        "how_to_fix": "Use a model that goes by the image",
    }
