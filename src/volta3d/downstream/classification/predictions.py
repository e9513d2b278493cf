"""The predictions of a run as one table: whatever is reported is computed from this file alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from volta3d.errors import VoltaError
from volta3d.files import atomic_file

if TYPE_CHECKING:  # torch loads slowly, and reading predictions needs none of it
    from volta3d.downstream.classification.labels import Labelled

FORMAT = 1
METADATA = b"volta3d"
PREDICTIONS = "predictions.parquet"
INNER = "inner_predictions.parquet"
TOLD, TOLD_ABOUT = "predictions.tsv", "predictions.json"  # what predict leaves of new scans
KEYS = ("arm", "fraction", "seed", "fold")


def score_columns(labels: Sequence[str]) -> list[str]:
    """Names of the columns that hold scores: ``score``, or one per class for over two classes."""
    return [f"score {label}" for label in labels] if len(labels) > 2 else ["score"]


def is_told(folder: Path) -> bool:
    """Whether ``predict`` left class scores or numbers of new scans here."""
    return (folder / TOLD).is_file() and (folder / TOLD_ABOUT).is_file()


def table_of(records: Sequence[Mapping[str, Any]], labelled: Labelled, part: str) -> pd.DataFrame:
    """One row per arm, seed, fraction, fold and scan.

    Columns: arm, fraction, seed, fold, scan_id, subject, target (the label, or the number), score
    (of the positive class; the number predicted; one column per class for over two), threshold
    (Youden's, from inner validation), baseline (the training part's mean, for numbers) and epoch.

    Args:
        records: of finished trials.
        labelled: gives targets and subjects.
        part: ``test`` or ``inner``.
    """
    place = {scan_id: i for i, scan_id in enumerate(labelled.scan_ids)}
    names = score_columns(labelled.labels)
    rows = []
    for record in records:
        for scan_id, scores in zip(record[part]["scan_id"], record[part]["scores"], strict=True):
            i = place[scan_id]
            value = labelled.values[i]
            told = scores if len(names) > 1 else [scores[-1]]
            rows.append(
                {
                    **{key: record[key] for key in KEYS},
                    "scan_id": scan_id,
                    "subject": labelled.subjects[i],
                    "target": labelled.labels[int(value)] if labelled.categorical else value,
                    **dict(zip(names, told, strict=True)),
                    "threshold": _number(record["threshold"]),
                    "baseline": _number(record["baseline"]),
                    "epoch": record["epoch"],
                }
            )
    if not rows:
        raise VoltaError(f"There are no {part} predictions", fix="Run volta3d classify first")
    return pd.DataFrame(rows)


def write_predictions(path: Path, table: pd.DataFrame, about: Mapping[str, Any]) -> None:
    """Publish a table of predictions, what it is about in the file's metadata.

    Args:
        path: a parquet file.
        table: see ``table_of``.
        about: ``kind``, ``target``, ``labels`` and provenance.
    """
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    own = json.dumps({"format": FORMAT, **about}, sort_keys=True, allow_nan=False)
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), METADATA: own.encode()})
    with atomic_file(path) as temporary:
        pq.write_table(arrow, temporary)


def read_predictions(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A table that ``write_predictions`` wrote, and what it is about.

    Raises:
        VoltaError: missing, damaged, or not such a table.
    """
    try:
        arrow = pq.read_table(path)
        about = json.loads((arrow.schema.metadata or {})[METADATA])
        table: pd.DataFrame = arrow.to_pandas()
        whole = about["format"] == FORMAT and about["kind"] in ("classification", "regression")
        whole = whole and {*KEYS, "scan_id", "subject", "target", "threshold"} <= set(table.columns)
        whole = whole and set(score_columns(about["labels"])) <= set(table.columns)
        whole = whole and bool(np.isfinite(table[score_columns(about["labels"])]).all(axis=None))
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise VoltaError(
            f"Not a table of predictions: {type(error).__name__}",
            where=path,
            fix="Make it with: volta3d classify COHORT --target COLUMN --arm NAME=SPEC --out RUN",
        ) from error
    if not whole:
        raise VoltaError(
            "A table of predictions with missing columns or scores that are no numbers",
            where=path,
            fix="Restore it, or run volta3d classify again",
        )
    return table, about


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
