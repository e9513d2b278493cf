"""What models predict of scans whose labels are known: validation on a cohort of its own.

Each folder of ``predict`` is an arm. Labels come out of a table; no label has reached a model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from volta3d import __version__
from volta3d.arms.spec import SAW
from volta3d.artefacts import METRICS
from volta3d.cohort.participants import write_table
from volta3d.cohort.subjects import subjects_of
from volta3d.downstream.classification.label_table import no_row_matches, own_table
from volta3d.downstream.classification.labels import label_text, named_among
from volta3d.downstream.classification.predictions import (
    PREDICTIONS,
    score_columns,
    write_predictions,
)
from volta3d.errors import UsageError, VoltaError
from volta3d.evaluate.classification.prediction_folder import (
    PredictionFolder,
    check_same_scans,
    read_prediction_folder,
)
from volta3d.evaluate.classification.score import evaluate_predictions
from volta3d.files import content_hash, require_writable, write_text

CONFIG, COMMAND = "config.yaml", "evaluate"
DROPPED = "dropped.tsv"


def evaluate_external(
    folders: Sequence[Path], labels: Path | None, out: Path | None, target: str = ""
) -> dict[str, Any]:
    """Metrics of folders of ``predict`` against known labels, as those of a run.

    Args:
        folders: of ``predict``, an arm each, of models of one target with the same classes.
        labels: a table with scan_id or participant_id, and the target.
        out: a folder for predictions.parquet, metrics.json, dropped.tsv and config.yaml; ``report``
            takes it as it takes a run.
        target: the table's column; empty: named as the models' target.

    Returns:
        What metrics.json holds; all arms on the scans that each of them predicted.

    Raises:
        UsageError: no table, no folder for results or one that holds something else, models of
            different targets or classes, or one scan_id for different scans.
        VoltaError: a damaged folder, or no scan that has a label and every arm's word.
    """
    if labels is None:
        raise UsageError(
            "Predictions of new scans are scored against labels, and there are none",
            where=folders[0],
            fix="Give a table: --labels TABLE, with participant_id or scan_id and the target",
        )
    if out is None:
        raise UsageError(
            "Scores of several folders need a folder to go to", fix="Name one: --out FOLDER"
        )
    _require_own(out, folders)
    require_writable(out)
    arms = [
        read_prediction_folder(folder, name)
        for folder, name in zip(folders, _names(folders), strict=True)
    ]
    first = arms[0].about
    for arm in arms[1:]:
        for key in ("kind", "target", "labels"):
            if arm.about[key] != first[key]:
                raise UsageError(
                    f"Models of different {key}: {first[key]} and {arm.about[key]}",
                    where=f"{arms[0].arm}, {arm.arm}",
                    fix="Evaluate them apart",
                )
    check_same_scans(arms)
    classes = [str(c) for c in first["labels"]]
    known, dropped = _known(arms, labels, target or first["target"], classes)
    write_table(out / DROPPED, pd.DataFrame(dropped, columns=["scan_id", "reason", "what"]))
    table = pd.concat([_rows(arm, known, classes) for arm in arms], ignore_index=True)
    about: dict[str, Any] = {
        "kind": first["kind"],
        "target": first["target"],
        "labels": classes,
        "folds": 1,
        "folds_hash": content_hash([list(known["scan_id"]), list(known["target"])]),
        "synthetic": any(a.about.get("synthetic", False) for a in arms),
        "dropped": len(dropped),
        "empty_classes": [c for c in classes if c not in set(known["target"])],
        "arms": {a.arm: _declared(a, set(known["scan_id"])) for a in arms},
        "software": f"volta3d {__version__}",
        "part": "test",
    }
    if dropped:
        first_left = f"{dropped[0]['scan_id']}, {dropped[0]['what']}"
        about["left_out"] = {"first": first_left, "file": DROPPED}
    write_predictions(out / PREDICTIONS, table, about)
    described = {k: about[k] for k in ("software", "target", "kind", "labels", "arms", "synthetic")}
    write_text(out / CONFIG, yaml.safe_dump({"command": COMMAND, **described}, sort_keys=False))
    return evaluate_predictions(out)


def _require_own(out: Path, folders: Sequence[Path]) -> None:
    """Make sure that nothing but earlier scores of this command would be replaced.

    Raises:
        UsageError: ``out`` holds a run, or is what is to be scored.
    """
    if out.resolve() in {folder.resolve() for folder in folders}:
        raise UsageError(
            "The folder for scores is one of those that are scored",
            where=out,
            fix="Give scores a folder of their own: --out FOLDER",
        )
    try:
        content = yaml.safe_load((out / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        content = None
    if isinstance(content, dict) and content.get("command") == COMMAND:
        return
    held = [name for name in (CONFIG, PREDICTIONS, METRICS) if (out / name).exists()]
    if held:
        raise UsageError(
            f"The folder for scores holds something else already: {', '.join(held)}",
            where=out,
            fix="Give scores a folder of their own: --out FOLDER",
        )


def _names(folders: Sequence[Path]) -> list[str]:
    """Each folder by its last name; by as much of its path as tells them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-count:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    raise UsageError("A folder is given twice", where=folders[0], fix="Name each once")


def _known(
    arms: Sequence[PredictionFolder], labels: Path, target: str, classes: Sequence[str]
) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """The scans that every arm predicted and that have a label, and what became of the others."""
    everybody = pd.concat([a.rows for a in arms]).drop_duplicates("scan_id", ignore_index=True)
    values, reasons = own_table(labels, everybody, target, classes)
    texts = [named_among(label_text(v), classes) for v in values]
    if len(reasons) == len(everybody):
        raise no_row_matches(labels, everybody)
    for row, text in enumerate(texts):
        scan = everybody["scan_id"].iloc[row]
        silent = [a.arm for a in arms if scan not in a.rows.index]
        if row in reasons:
            continue
        if silent:
            reasons[row] = ("not-predicted", f"{', '.join(silent)} has no prediction of it")
        elif not text:
            reasons[row] = ("no-label", f"No {target} is known for it")
        elif classes and text not in classes:
            reasons[row] = ("other-class", f"Its {target} is {text}")
        elif not classes and not _number(text):
            reasons[row] = ("no-number", f"Its {target} is {text}")
    kept = [row for row in range(len(everybody)) if row not in reasons]
    if not kept:
        raise VoltaError(
            f"No scan is left; of the first: {reasons[0][1]}",
            where=labels,
            fix="Compare the table's labels with the model's classes"
            + (f": {', '.join(classes)}" if classes else ""),
        )
    files = {scan_id: file for arm in arms for scan_id, file in arm.files.items()}
    hashes = [files.get(scan_id, "") for scan_id in everybody["scan_id"]]
    people, _ = subjects_of(everybody.assign(source_sha256=hashes))
    known = everybody.iloc[kept][["scan_id"]].reset_index(drop=True)
    known["subject"] = [people[row] for row in kept]
    known["target"] = [texts[row] if classes else float(texts[row]) for row in kept]
    dropped = [
        {"scan_id": str(everybody["scan_id"].iloc[row]), "reason": reason, "what": what}
        for row, (reason, what) in sorted(reasons.items())
    ]
    return known, dropped


def _rows(arm: PredictionFolder, known: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    own = arm.rows.loc[known["scan_id"], score_columns(classes)].reset_index(drop=True)
    threshold = arm.about.get("threshold")
    # there is no training part here: R2 is against the mean of the scans themselves
    baseline = math.nan if classes else float(known["target"].mean())
    found = pd.concat([known, own], axis=1)
    found["arm"], found["fraction"] = arm.arm, 1.0
    found["seed"] = found["fold"] = found["epoch"] = 0
    found["threshold"] = math.nan if threshold is None else float(threshold)
    found["baseline"] = baseline
    return found


def _declared(arm: PredictionFolder, kept: set[str]) -> dict[str, Any]:
    """What is said of an arm; ``trained_on_these``: how many scans of ``kept`` it was fitted to.

    None where that is not known, True for some (recorded before scans were remembered).
    """
    known: dict[str, Any] = arm.about.get("arm", {})
    found = {**known, "model_sha256": arm.about["model_sha256"]}
    if found.get(SAW, "none") != "none":
        found[SAW] = "unknown"  # what it says is of the cohort that the model was fitted to
    trained = arm.about.get("trained_on", {})
    if arm.fitted is None:
        of_cohort = trained.get("cohort_hash") in arm.about.get("cohorts", [])
        found["trained_on_these"] = True if of_cohort else None
        return found
    scans = len(kept & arm.fitted["scans"])
    unknown = kept & arm.fitted["unknown"] and not scans
    found["trained_on_these"] = None if unknown else scans
    return found


def _number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
