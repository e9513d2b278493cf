"""What ``inspect`` says of a run of ``classify`` or ``segment``, a fitted model, predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]
import yaml

from volta3d.downstream.classification.fitted import load_fitted, read_model_config
from volta3d.downstream.classification.predictions import METADATA, PREDICTIONS, read_predictions
from volta3d.errors import VoltaError
from volta3d.ledger import Ledger
from volta3d.statistics.splits import read_splits

COMMANDS = ("classify", "segment")
Problem = dict[str, str]


def is_task_run(path: Path) -> bool:
    """Whether a folder is a run of ``classify`` or ``segment``."""
    return _config(path).get("command") in COMMANDS


def is_model(path: Path) -> bool:
    """Whether a folder is a fitted model, even a damaged one."""
    try:
        return bool(read_model_config(path))
    except VoltaError:
        return False


def is_predictions(path: Path) -> bool:
    """Whether a parquet file says that it holds predictions."""
    try:
        return b'"folds_hash"' in (pq.read_schema(path).metadata or {}).get(METADATA, b"")
    except (OSError, ValueError):
        return False


def task_run(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    """The facts of a run, its folds and predictions checked."""
    config, problems = _config(path), []
    facts: dict[str, Any] = {
        "command": config["command"],
        "target": config.get("target", ""),
        "arms": list(config.get("arms", {})),
        "models": sorted(p.parent.parent.name for p in path.glob("arms/*/model/config.json")),
        "metrics": (path / "metrics.json").is_file(),
    }
    if (path / "jobs").is_dir():
        facts["jobs done"] = len(Ledger(path / "jobs").records())
    try:
        splits = read_splits(path / "folds.json")
        facts |= {"folds": splits.folds, "subjects": len(splits.fold), "folds_hash": splits.hash}
        if config["command"] == "classify":
            table, about = read_predictions(path / PREDICTIONS)
            facts |= {"predictions": len(table), "dropped": about.get("dropped", 0)}
    except VoltaError as error:
        again = f"Run the same volta3d {config['command']} command again with --resume"
        problems.append({"what": error.what, "where": error.where, "fix": again})
    return facts, problems


def model(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    """The facts of a fitted model, its weights loaded.

    Raises:
        VoltaError: it is damaged.
    """
    content = read_model_config(path)
    if content["kind"] == "segmentation":
        from volta3d.downstream.segmentation.model import load_segment_model

        load_segment_model(path)
    else:
        load_fitted(path)
    shown = ("kind", "target", "labels", "threshold", "parameters", "software", "weights_sha256")
    return {k: content[k] for k in shown if k in content}, []


def predictions(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    """The facts of a table of predictions.

    Raises:
        VoltaError: it is damaged.
    """
    table, about = read_predictions(path)
    facts = {k: about[k] for k in ("kind", "target", "labels", "folds", "folds_hash")}
    facts |= {"rows": len(table), "scans": int(table["scan_id"].nunique())}
    return facts | {"arms": sorted(set(table["arm"]))}, []


def _config(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load((path / "config.yaml").read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}
