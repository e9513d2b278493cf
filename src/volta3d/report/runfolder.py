"""A run folder as it is found: whole, still growing, half-written or nearly empty.

Nothing here raises for a piece that is missing or broken; ``Run.notes`` says in plain sentences
what could not be read.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from volta3d.config import PretrainConfig, build, parse_yaml
from volta3d.errors import ConfigError

_PICTURE = re.compile(r"reconstruction-epoch-(\d+)\.safetensors$")

Points = tuple[np.ndarray, np.ndarray]  # optimiser steps [n], values [n]


@dataclass(frozen=True)
class Run:
    """What a run folder holds.

    Attributes:
        path: the folder.
        raw: config.yaml as plain data, {} when unreadable.
        config: the same, typed; None when it does not fit this release.
        environment: environment.json.
        cohorts: the entries of cohort.json.
        scans: scans trained on, None if unknown.
        steps: numeric step records, one row per optimiser step in order.
        epochs: epoch records in order.
        alarms: alarm records in order.
        reconstructions: (epoch, file) in order of epochs.
        patch_tokens: the file of patch tokens, if there.
        notes: what could not be read, in sentences.
    """

    path: Path
    raw: dict[str, Any] = field(default_factory=dict)
    config: PretrainConfig | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    cohorts: list[dict[str, Any]] = field(default_factory=list)
    scans: int | None = None
    steps: pd.DataFrame = field(default_factory=pd.DataFrame)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    alarms: list[dict[str, Any]] = field(default_factory=list)
    reconstructions: list[tuple[int, Path]] = field(default_factory=list)
    patch_tokens: Path | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The folder's own name; the path to it may tell too much."""
        return self.path.resolve().name

    @property
    def finished(self) -> bool:
        """Whether the encoder folder, written last, is there."""
        return (self.path / "encoder").is_dir()

    @property
    def log_prototypes(self) -> float | None:
        """ln K, the CLS loss of a student that knows nothing."""
        return math.log(self.config.model.prototypes) if self.config else None

    @property
    def last_step(self) -> int:
        """Optimiser steps done."""
        seen = [int(r["step"]) for r in self.epochs if _is_number(r.get("step"))]
        if "step" in self.steps and len(self.steps):
            seen.append(int(self.steps["step"].iloc[-1]))
        return max(seen, default=0)

    @property
    def planned_steps(self) -> int | None:
        """Optimiser steps the configuration asks for, None if unknown."""
        if self.config is None or not self.scans:
            return None
        micro = math.ceil(self.scans / self.config.batch_size)
        return self.config.epochs * math.ceil(micro / self.config.accumulate)

    @property
    def synthetic(self) -> list[str]:
        """The names of the cohorts that are synthetic."""
        return [str(c.get("path", "?")) for c in self.cohorts if c.get("synthetic") is True]

    def step_series(self, name: str) -> Points:
        """A column of the step records against the step; empty when there is none."""
        if name not in self.steps or "step" not in self.steps:
            return np.array([]), np.array([])
        part = self.steps[["step", name]].dropna()
        return part["step"].to_numpy(float), part[name].to_numpy(float)

    def epoch_series(self, dotted: str) -> Points:
        """A value of the epoch records, e.g. ``gradient_norms.cls``, against the step."""
        found = []
        for record in self.epochs:
            value: Any = record
            for key in dotted.split("."):
                value = value.get(key) if isinstance(value, dict) else None
            if _is_number(value) and _is_number(record.get("step")):
                found.append((float(record["step"]), float(value)))
        steps, values = zip(*found, strict=True) if found else ((), ())
        return np.array(steps, float), np.array(values, float)


def read_run(path: Path) -> Run:
    """Everything of a run folder that can be read."""
    notes: list[str] = []
    raw, config = _config(path / "config.yaml", notes)
    cohort = _json(path / "cohort.json", notes)
    listed = cohort.get("cohorts")
    cohorts = [c for c in listed if isinstance(c, dict)] if isinstance(listed, list) else []
    counts = [c["scans"] for c in cohorts if isinstance(c.get("scans"), int)]
    records = read_records(path / "metrics.jsonl", notes)
    kinds: dict[str, list[dict[str, Any]]] = {"step": [], "epoch": [], "alarm": []}
    for record in records:
        if record.get("kind") in kinds:
            kinds[record["kind"]].append(record)
    pictures = []
    for file in (path / "pictures").glob("reconstruction-epoch-*.safetensors"):
        match = _PICTURE.search(file.name)
        if match:
            pictures.append((int(match[1]), file))
    tokens = path / "pictures" / "patch-tokens.safetensors"
    return Run(
        path=path,
        raw=raw,
        config=config,
        environment=_json(path / "environment.json", notes),
        cohorts=cohorts,
        scans=sum(counts) if counts else None,
        steps=_step_table(kinds["step"]),
        epochs=_once(kinds["epoch"]),
        alarms=kinds["alarm"],
        reconstructions=sorted(pictures),
        patch_tokens=tokens if tokens.is_file() else None,
        notes=notes,
    )


def _config(path: Path, notes: list[str]) -> tuple[dict[str, Any], PretrainConfig | None]:
    text = _text(path, notes)
    if text is None:
        return {}, None
    try:
        raw = parse_yaml(text, where=path.name)
    except (ConfigError, RecursionError):
        notes.append(f"{path.name} is not readable as YAML.")
        return {}, None
    try:
        return raw, build(PretrainConfig, raw)
    except ConfigError as error:
        notes.append(f"{path.name} does not fit this release: {error.what} ({error.where}).")
        return raw, None


def _json(path: Path, notes: list[str]) -> dict[str, Any]:
    text = _text(path, notes)
    if text is None:
        return {}
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        notes.append(f"{path.name} is not readable as JSON.")
        return {}
    return content if isinstance(content, dict) else {}


def read_records(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    """The whole records of a file with one JSON object a line."""
    text = _text(path, notes)
    found, broken = [], 0
    for line in (text or "").splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            found.append(record)
        elif line.strip():
            broken += 1
    if broken:
        lines = "One line" if broken == 1 else f"{broken} lines"
        notes.append(f"{lines} of {path.name} could not be read and {_are(broken)} left out.")
    return found


def _text(path: Path, notes: list[str]) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        notes.append(f"{path.name} is missing.")
    except OSError as error:
        notes.append(f"{path.name} cannot be read: {error.strerror}.")
    return None


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _step_table(records: list[dict[str, Any]]) -> pd.DataFrame:
    """Numeric columns only; of a step written twice (a crash, then a resume) the later one."""
    table = pd.DataFrame(records)
    if "step" not in table:
        return pd.DataFrame()
    for column in table.columns:
        table[column] = pd.to_numeric(table[column], errors="coerce")
    finite = table.replace([np.inf, -np.inf], np.nan).dropna(subset=["step"])
    once = finite.drop_duplicates("step", keep="last")
    return once.dropna(axis="columns", how="all").sort_values("step", ignore_index=True)


def _once(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    by_step = {float(r["step"]): r for r in records if _is_number(r.get("step"))}
    return [by_step[step] for step in sorted(by_step)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
