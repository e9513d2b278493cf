"""Class scores or numbers for new scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from volta3d import __version__
from volta3d.artefacts import PREDICTED_ABOUT, REFUSED
from volta3d.cohort.participants import write_table
from volta3d.downstream.classification.fitted import FILES, FittedModel, file_hash, load_fitted
from volta3d.downstream.classification.predictions import TOLD, score_columns
from volta3d.encoder.embed import _device
from volta3d.encoder.source import Source
from volta3d.files import require_writable, sha256
from volta3d.grid.predicted import (
    PredictedFolder,
    PredictResult,
    Progress,
    unreadable,
)

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
    folder = PredictedFolder.open(out, str(fitted.config["weights_sha256"]))
    earlier = _earlier(out, folder)
    refused: list[dict[str, str]] = []
    rows: list[dict[str, Any]] = []
    scans_done: list[pd.Series] = []
    for number, scan in enumerate(source.cubes()):
        row, volume = scan.row.iloc[0], scan.volume
        measured = row[fitted.volume_columns].to_numpy(np.float64)
        if not (np.isfinite(measured) & (measured > 0)).all():
            refused.append(_unmeasured(row, fitted))
            continue
        cube = torch.from_numpy(np.ascontiguousarray(volume))[None, None]
        scores = fitted.predict(cube, measured[None])[0]
        rows.append({**{k: row[k] for k in KNOWN}, **_columns(fitted, scores)})
        scans_done.append(row)
        if progress is not None:
            progress(number + 1, source.count)
    refused = [*source.refused, *refused]
    if not rows:
        source.refused = refused
        raise source.none_left()
    again = {str(row["scan_id"]) for row in rows}
    kept = earlier[~earlier["scan_id"].isin(again)] if len(earlier) else earlier
    table = pd.concat([kept, pd.DataFrame(rows)], ignore_index=True) if len(kept) else rows
    write_table(out / TOLD, pd.DataFrame(table))
    about = {
        "software": f"volta3d {__version__}",
        "kind": fitted.config["kind"],
        "target": fitted.config["target"],
        "labels": fitted.labels,
        "threshold": fitted.config.get("threshold"),
        "model_sha256": fitted.config["weights_sha256"],
        "contract_hash": fitted.config["contract_hash"],
        "arm": fitted.config.get("arm", {}),
        "trained_on": _trained_on(fitted),
        **_seen(fitted, source, scans_done, folder.about),
        "cohorts": [*folder.about.get("cohorts", []), *(c.hash() for c in source.cohorts)],
        "synthetic": source.synthetic or bool(folder.about.get("synthetic")),
        "told": len(table),
        "refused": len(refused),
        "predictions_sha256": sha256(out / TOLD),
    }
    folder.publish(about, refused, {str(row["source"]) for row in rows})
    return PredictResult(out / TOLD, len(rows), tuple(refused), out / REFUSED)


def _earlier(out: Path, folder: PredictedFolder) -> pd.DataFrame:
    """What earlier calls left in the table; without rows where there was none.

    Raises:
        VoltaError: the table isn't what they left.
    """
    path = out / TOLD
    if not path.is_file():
        return pd.DataFrame()
    if not folder.about or sha256(path) != folder.about.get("predictions_sha256"):
        raise unreadable(path, f"it and {PREDICTED_ABOUT} do not belong together")
    texts: dict[Any, Any] = dict.fromkeys(KNOWN, str)
    return pd.read_csv(path, sep="\t", dtype=texts, keep_default_na=False)


def _trained_on(fitted: FittedModel) -> dict[str, Any]:
    """What the model says of its training, without the hashes, which may be many."""
    trained = fitted.config.get("trained_on", {})
    return {k: v for k, v in trained.items() if k != FILES}


def _seen(
    fitted: FittedModel, source: Source, rows: Sequence[pd.Series], before: Mapping[str, Any]
) -> dict[str, Any]:
    """Which of the scans predicted the model was fitted to, as far as it remembers.

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
    own = {str(row["scan_id"]) for row in rows}
    known: dict[str, list[str]] = {
        key: [s for s in before.get("fitted", {}).get(key, []) if s not in own]
        for key in ("scans", "unknown")
    }
    for row in rows:
        scan_id, file = str(row["scan_id"]), file_hash(row["source_sha256"])
        comparable = bool(file and files)
        if file in files or (scan_id in whole and not comparable):
            known["scans"].append(scan_id)
        elif not comparable:
            known["unknown"].append(scan_id)
    unknown = known["unknown"] and not known["scans"]
    return {
        "fitted": known,
        "trained_on_these": None if unknown else len(known["scans"]),
        "files": {
            **before.get("files", {}),
            **{str(row["scan_id"]): file_hash(row["source_sha256"]) for row in rows},
        },
    }


def told_column(target: str, labels: Sequence[str]) -> str:
    """The column of predictions.tsv that holds what a model says.

    Args:
        target: the model's.
        labels: its classes; empty for numbers.
    """
    taken = target in (*KNOWN, *score_columns(labels))  # the table says that already
    return f"predicted {target}" if taken else target


def _columns(fitted: FittedModel, scores: np.ndarray) -> dict[str, Any]:
    """The columns that hold what a model says of one scan."""
    labels = fitted.labels
    names = score_columns(labels)
    target = told_column(fitted.config["target"], labels)
    if not labels:
        return {target: float(scores[0])}
    columns: dict[str, Any] = {target: labels[int(scores.argmax())]}
    threshold = fitted.config.get("threshold")
    if threshold is not None:
        columns[f"{target} at Youden"] = labels[int(scores[1] >= threshold)]
    values = scores if len(names) > 1 else scores[-1:]
    return columns | {name: float(v) for name, v in zip(names, values, strict=True)}


def _unmeasured(row: pd.Series, fitted: FittedModel) -> dict[str, str]:
    return {
        "source": str(row["source"]),
        "code": "no-volume",
        "what": f"Not measured: {', '.join(fitted.volume_columns)}",
        "how_to_fix": "Use a model that goes by the image",
    }
