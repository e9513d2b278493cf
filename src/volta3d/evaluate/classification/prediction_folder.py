"""A folder that ``predict`` left of scores for new scans, checked before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from volta3d.downstream.classification.predict_scores import told_column
from volta3d.downstream.classification.predictions import TOLD, TOLD_ABOUT, score_columns
from volta3d.errors import UsageError, VoltaError
from volta3d.files import read_json, sha256

NEEDED = ("kind", "target", "labels", "model_sha256", "predictions_sha256")
SAME = ("participant_id", "session", "dataset")  # of a scan, in whichever folder
AGAIN = "Run volta3d predict again"


@dataclass(frozen=True)
class PredictionFolder:
    """A folder of ``predict``.

    Args:
        arm: the folder's name.
        path: the folder.
        about: predictions.json.
        rows: predictions.tsv, by scan_id.
        fitted: ids of the scans its model was fitted to (``scans``) and of those where that is
            ``unknown``; None where nothing of it is recorded.
        files: the hash of each scan's file, where it is known.
    """

    arm: str
    path: Path
    about: dict[str, Any]
    rows: pd.DataFrame
    fitted: dict[str, set[str]] | None
    files: dict[str, str]


def read_prediction_folder(folder: Path, arm: str) -> PredictionFolder:
    """What ``predict`` left in a folder.

    Raises:
        VoltaError: something is missing, table and predictions.json disagree, or a score is no
            number.
    """
    about = read_json(folder / TOLD_ABOUT)
    missing = [key for key in NEEDED if not isinstance(about, dict) or key not in about]
    if missing:
        raise VoltaError(
            f"{TOLD_ABOUT} lacks {', '.join(missing)}: not what predict left here",
            where=folder,
            fix=AGAIN,
        )
    try:
        same = sha256(folder / TOLD) == about["predictions_sha256"]
        labels = list(map(str, about["labels"]))
        # of one score the table's column is not named as what is predicted
        names = score_columns(labels) if labels else [told_column(str(about["target"]), labels)]
        table = pd.read_csv(folder / TOLD, sep="\t", dtype=str, keep_default_na=False)
        rows = table[["scan_id", *SAME]].copy()
        rows[score_columns(labels)] = _numbers(table, names)
        recorded = about.get("fitted")
        fitted = (
            None
            if recorded is None
            else {key: set(map(str, recorded[key])) for key in ("scans", "unknown")}
        )
        files = {str(k): str(v) for k, v in about.get("files", {}).items()}
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(folder) from error
    if not same or rows["scan_id"].duplicated().any():
        raise _damaged(folder)
    wrong = ~np.isfinite(rows[score_columns(labels)].to_numpy(float)).all(axis=1)
    if wrong.any():
        raise VoltaError(
            f"{int(wrong.sum())} scores are no numbers, the first is that of "
            f"{rows['scan_id'][wrong].iloc[0]}",
            where=folder,
            fix="Restore the model, or leave these scans out, and run volta3d predict again",
        )
    by_id = rows.set_index("scan_id", drop=False).rename_axis(None)
    return PredictionFolder(arm, folder, about, by_id, fitted, files)


def _numbers(table: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """The columns as numbers; what is empty is NaN."""
    return np.asarray(table[list(names)].replace("", "nan").astype(float))


def _damaged(folder: Path) -> VoltaError:
    return VoltaError(
        f"Not what predict left here: {TOLD} and {TOLD_ABOUT} disagree", where=folder, fix=AGAIN
    )


def check_same_scans(arms: Sequence[PredictionFolder]) -> None:
    """Make sure that one scan_id is one scan in all folders.

    Raises:
        UsageError: person, session or data set differ.
    """
    first: dict[str, tuple[PredictionFolder, tuple[str, ...]]] = {}
    for arm in arms:
        for scan_id, *known in arm.rows[["scan_id", *SAME]].itertuples(index=False):
            other, before = first.setdefault(str(scan_id), (arm, tuple(known)))
            differ = [k for k, a, b in zip(SAME, before, known, strict=True) if a != b]
            if differ:
                key = SAME.index(differ[0])
                raise UsageError(
                    f"{scan_id} is not the same scan in two folders: its {differ[0]} is "
                    f"'{before[key]}' and '{known[key]}'",
                    where=f"{other.path}, {arm.path}",
                    fix="Give the same scans, or the same cohort, to every predict",
                )
