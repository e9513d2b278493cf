"""A run of ``classify`` or ``segment`` as it is found; what is missing becomes a sentence."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from volta3d.config import parse_yaml
from volta3d.downstream.classification.predictions import (
    PREDICTIONS,
    read_predictions,
    score_columns,
)
from volta3d.errors import VoltaError
from volta3d.evaluate.segmentation.summary import CASES, read_cases
from volta3d.report.runfolder import read_records

KINDS = ("classification", "regression", "segmentation")
COMMANDS = {"classify", "segment", "evaluate"}


@dataclass(frozen=True)
class TaskRun:
    """What a downstream run folder holds.

    Attributes:
        path: the folder.
        kind: one of ``KINDS``.
        config: config.yaml as plain data.
        metrics: metrics.json; {} before ``evaluate``.
        scores: binary classification: one row a scan, arm and seed of the whole training part,
            with ``target`` (1 = positive) and ``score``; None otherwise.
        predictions: one row a scan, arm and seed of the whole training part, as they were written;
            None for a segmentation.
        cases: segmentation: one row a case, arm and structure; None otherwise.
        training: epoch records of each arm.
        notes: what could not be read, in sentences.
    """

    path: Path
    kind: str
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    scores: pd.DataFrame | None = None
    predictions: pd.DataFrame | None = None
    cases: pd.DataFrame | None = None
    training: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @property
    def target(self) -> str:
        """What is asked."""
        if self.kind == "segmentation":
            return " and ".join(str(s) for s in self.metrics.get("structures", [])) or "structures"
        return str(self.metrics.get("target") or self.config.get("target") or "?")

    @property
    def arms(self) -> list[str]:
        """Their names, the first is the one that is compared with the others."""
        if self.kind == "segmentation":
            declared = list(self.config.get("arms") or {})
            found = list(self.metrics.get("results", {}))
            return sorted(found, key=lambda a: declared.index(a) if a in declared else len(found))
        return list(dict.fromkeys(str(r["arm"]) for r in self.rows))

    @property
    def elsewhere(self) -> bool:
        """Whether models fitted elsewhere told of scans that were no part of their run."""
        return self.config.get("command") == "evaluate"

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Scores by arm, fraction and metric, of a classification or regression."""
        return list(self.metrics.get("rows", []))

    @property
    def full(self) -> float:
        """The largest fraction of the training part."""
        return max((float(r["fraction"]) for r in self.rows), default=1.0)

    @property
    def volume_arms(self) -> list[str]:
        """The arms that know head and brain volume and nothing else."""
        declared = self.metrics.get("arms") or self.config.get("arms") or {}
        return [
            name
            for name in self.arms
            if isinstance(declared.get(name), dict) and declared[name].get("kind") == "volume"
        ]

    @property
    def synthetic(self) -> bool:
        """Whether its scans were made by a program."""
        return bool(self.metrics.get("synthetic", self.config.get("synthetic", False)))

    def row(self, arm: str, metric: str, fraction: float | None = None) -> dict[str, Any] | None:
        """One score, of the whole training part unless said otherwise."""
        wanted = self.full if fraction is None else fraction
        found = (
            r
            for r in self.rows
            if (r["arm"], r["metric"], float(r["fraction"])) == (arm, metric, wanted)
        )
        return next(found, None)


def read_task(path: Path) -> TaskRun | None:
    """The run in a folder, None when the folder holds no run of ``classify``, ``segment`` or
    ``evaluate`` of new scans."""
    config = _yaml(path / "config.yaml")
    if config.get("command") not in COMMANDS:
        return None
    notes: list[str] = []
    kind = str(config.get("kind", ""))
    if kind not in KINDS:
        kind = "segmentation" if config["command"] == "segment" else "classification"
    metrics = _json(path / "metrics.json")
    if not metrics:
        notes.append(
            f"{path.resolve().name} is not scored yet, so nothing is compared. "
            f"Do it with: volta3d evaluate {path.resolve().name}"
        )
    cases = _cases(path / CASES, notes) if kind == "segmentation" and metrics else None
    told = _predictions(path / PREDICTIONS, notes) if kind != "segmentation" and metrics else None
    return TaskRun(
        path=path,
        kind=kind,
        config=config,
        metrics=metrics,
        scores=_scores(told, metrics) if kind == "classification" else None,
        predictions=told,
        cases=cases,
        training=_training(path / "arms"),
        notes=notes,
    )


def _yaml(path: Path) -> dict[str, Any]:
    try:
        return parse_yaml(path.read_text(encoding="utf-8", errors="replace"), where=path.name)
    except (OSError, VoltaError, RecursionError):
        return {}


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) and content.get("kind") in KINDS else {}


def _predictions(path: Path, notes: list[str]) -> pd.DataFrame | None:
    try:
        table, _ = read_predictions(path)
    except VoltaError as error:
        notes.append(f"{path.name}: {error.what}.")
        return None
    whole: pd.DataFrame = table[table["fraction"] == table["fraction"].max()].copy()
    return whole


def _scores(told: pd.DataFrame | None, metrics: dict[str, Any]) -> pd.DataFrame | None:
    labels = [str(label) for label in metrics.get("labels", [])]
    if told is None or len(labels) != 2:
        return None
    binary: pd.DataFrame = told.assign(target=(told["target"] == labels[-1]).astype(int))
    return binary.rename(columns={score_columns(labels)[-1]: "score"})


def _cases(path: Path, notes: list[str]) -> pd.DataFrame | None:
    try:
        table = read_cases(path)
    except VoltaError:
        notes.append(f"{path.name} is missing or not readable.")
        return None
    wanted = {"arm", "case", "structure", "status", "dice", "hd95_mm"}
    if not wanted <= set(table.columns):
        notes.append(f"{path.name} lacks {', '.join(sorted(wanted - set(table.columns)))}.")
        return None
    return table


def _training(folder: Path) -> dict[str, list[dict[str, Any]]]:
    files = sorted(folder.glob("*/metrics.jsonl"))
    return {path.parent.name: read_records(path, []) for path in files}
