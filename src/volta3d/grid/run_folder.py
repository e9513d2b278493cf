"""A run folder of ``classify`` or ``segment``: config.yaml and folds.json, and who may go on in it.

One rule for both tasks. What makes the experiment must be the same: cohort, labels, folds, settings
and what each arm is. Arms, seeds and fractions may be added. A setting that did not exist when the
folder was begun was what it is by default, or what runs did then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from volta3d import __version__
from volta3d.arms.spec import changed_arms
from volta3d.artefacts import FOLDS, RUN_CONFIG
from volta3d.config import ClassifyConfig, SegmentConfig, read_yaml
from volta3d.errors import CheckpointError, ConfigError, UsageError
from volta3d.files import require_writable, write_text
from volta3d.statistics.splits import Splits, read_splits

RESTORE = "Restore it, or choose another --out"
LONGEST = 600  # characters of what differs that a message holds


@dataclass(frozen=True)
class Experiment:
    """What a run folder is about.

    Args:
        command: ``classify`` or ``segment``.
        fixed: what two calls on one folder must share, besides settings and folds.
        noted: what else config.yaml says, for the reader.
        arms: by name, what each declares.
        config: the settings.
        splits: the folds.
    """

    command: str
    fixed: Mapping[str, Any]
    noted: Mapping[str, Any]
    arms: Mapping[str, Mapping[str, Any]]
    config: ClassifyConfig | SegmentConfig
    splits: Splits

    def content(self) -> dict[str, Any]:
        """Of config.yaml."""
        return {
            "command": self.command,
            "software": f"volta3d {__version__}",
            **self.fixed,
            **self.noted,
            "folds_hash": self.splits.hash,
            "arms": {name: dict(arm) for name, arm in self.arms.items()},
            "settings": self.config.content(),
        }


def check_start(run: Path, *, resume: bool) -> None:
    """Refuse a folder that can't be begun in.

    Raises:
        UsageError: it is a file, or there is a run and ``resume`` isn't asked for.
    """
    if run.exists() and not run.is_dir():
        raise UsageError("The output is a file, not a folder", where=run, fix="Rename --out")
    if (run / RUN_CONFIG).is_file() and not resume:
        raise UsageError(
            "A run is there already", where=run, fix="Add --resume, or choose another --out"
        )


def open_run(run: Path, experiment: Experiment) -> Splits:
    """Write config.yaml and folds.json, or check that they are those of this call.

    Returns:
        The folds, with the orders of all seeds there ever were.

    Raises:
        CheckpointError: the folder holds another experiment; with what differs.
    """
    require_writable(run)
    content, splits = experiment.content(), experiment.splits
    if (run / RUN_CONFIG).is_file():
        before = read_run(run)
        _check_same(run, before, content, experiment)
        content["arms"] = {**before["arms"], **content["arms"]}
        splits = _with_stored(run, splits)
    splits.write(run / FOLDS)
    write_text(run / RUN_CONFIG, yaml.safe_dump(content, sort_keys=False))
    return splits


def read_run(run: Path) -> dict[str, Any]:
    """The content of config.yaml, with the types it was written with.

    Raises:
        ConfigError: it can't be read.
    """
    path = run / RUN_CONFIG
    try:
        # not parse_yaml: that keeps what a person writes as `classes` as texts
        content = yaml.safe_load(read_yaml(path))
    except yaml.YAMLError as error:
        raise ConfigError(f"Not readable as YAML: {error}", where=path, fix=RESTORE) from error
    if not isinstance(content, dict) or not isinstance(content.get("arms"), dict):
        raise ConfigError("Not the config.yaml of a run", where=path, fix=RESTORE)
    return content


def _check_same(
    run: Path, before: Mapping[str, Any], now: Mapping[str, Any], experiment: Experiment
) -> None:
    keys = ("command", *experiment.fixed, "folds_hash")
    differs = [f"{k}: {before.get(k)} -> {now[k]}" for k in keys if before.get(k) != now[k]]
    defaults = type(experiment.config).before()
    stated = _filled(before.get("settings", {}), defaults)
    wanted = now["settings"]
    differs += [
        f"{k}: {stated.get(k)} -> {wanted[k]}"
        for k in experiment.config.science()
        if stated.get(k) != wanted[k]
    ]
    differs += changed_arms(before.get("arms", {}), now["arms"])
    if differs:
        what = "; ".join(differs)[:LONGEST]
        raise CheckpointError(
            f"The run folder holds another experiment (there -> here): {what}",
            where=run,
            fix="Choose another --out, or repeat the settings it was started with",
        )


def _filled(stated: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the defaults of those that are not stated, also within a group of them."""
    groups = {
        name: {**value, **stated[name]}
        for name, value in defaults.items()
        if isinstance(value, dict) and isinstance(stated.get(name), dict)
    }
    return {**defaults, **stated, **groups}


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
