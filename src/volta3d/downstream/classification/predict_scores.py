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
from volta3d.downstream.classification.fitted import FittedModel, load_fitted
from volta3d.downstream.classification.predictions import TOLD, TOLD_ABOUT, score_columns
from volta3d.downstream.embed import _device
from volta3d.downstream.predict import PredictResult, Progress
from volta3d.downstream.source import Source
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
    for number, (known, volume) in enumerate(source.cubes()):
        row = known.iloc[0]
        measured = row[fitted.volume_columns].to_numpy(np.float64)
        if not (np.isfinite(measured) & (measured > 0)).all():
            refused.append(_unmeasured(row, fitted))
            continue
        cube = torch.from_numpy(np.ascontiguousarray(volume))[None, None]
        scores = fitted.tell(cube, measured[None])[0]
        rows.append({**{k: row[k] for k in KNOWN}, **_told(fitted, scores)})
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
            "trained_on": fitted.config.get("trained_on", {}),
            "cohorts": [cohort.hash() for cohort in source.cohorts],
            "synthetic": source.synthetic,
            "told": len(rows),
            "refused": len(refused),
            "predictions_sha256": sha256(out / TOLD),
        },
    )
    return PredictResult(out / TOLD, len(rows), tuple(refused), out / REFUSED)


def _told(fitted: FittedModel, scores: np.ndarray) -> dict[str, Any]:
    """The columns that hold what a model says of one scan."""
    labels, target = fitted.labels, fitted.config["target"]
    names = score_columns(labels)
    if target in (*KNOWN, *names):
        target = f"predicted {target}"  # beside what the table says already
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
