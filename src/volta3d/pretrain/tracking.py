"""The numbers of a run, also where people look at runs: TensorBoard or MLflow."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from volta3d.config import PretrainConfig
from volta3d.errors import UsageError
from volta3d.files import read_json, write_json

MLFLOW_RUN = "mlflow.json"  # in a run folder: which of MLflow's runs this is
LONGEST = 500  # characters of a parameter that MLflow keeps
Numbers = Iterable[tuple[str, float]]


class Tracker(Protocol):
    """Where numbers go besides metrics.jsonl."""

    def write(self, numbers: Numbers, step: int) -> None:
        """Add numbers, named ``kind/name``, of one optimiser step."""

    def close(self) -> None:
        """Nothing more comes."""


class TensorBoard:
    """Events in the run folder.

    Args:
        folder: the run folder.
        step: optimiser steps done; events of later ones are hidden.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def write(self, numbers: Numbers, step: int) -> None:
        """Add numbers of one optimiser step."""
        for name, value in numbers:
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close."""
        self.writer.close()


class MLflow:
    """A run of MLflow, at ``MLFLOW_TRACKING_URI`` and in ``MLFLOW_EXPERIMENT_NAME`` (volta3d).

    A server that stops answering is said once and doesn't stop the training.

    Args:
        folder: the run folder; remembers MLflow's run, which a resumed run goes on with.
        config: its settings become parameters.

    Raises:
        UsageError: MLflow cannot be reached at the start.
    """

    def __init__(self, folder: Path, config: PretrainConfig) -> None:
        from mlflow import MlflowClient

        self.failed = False
        try:
            self.client = MlflowClient()
            known = folder / MLFLOW_RUN
            if known.is_file():
                self.run_id = str(read_json(known)["run_id"])
                self.client.get_run(self.run_id)
                return
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "volta3d")
            found = self.client.get_experiment_by_name(name)
            experiment = found.experiment_id if found else self.client.create_experiment(name)
            self.run_id = self.client.create_run(experiment, run_name=folder.name).info.run_id
            for key, value in _flat(config.content()):
                self.client.log_param(self.run_id, key, str(value)[:LONGEST])
        except Exception as error:  # MLflow's kinds, and those of its HTTP client
            raise UsageError(
                f"MLflow cannot be used: {type(error).__name__}: {str(error)[:200]}",
                where="tracking",
                fix="Set MLFLOW_TRACKING_URI to a server that answers, or tracking=none",
            ) from error
        write_json(known, {"run_id": self.run_id})

    def write(self, numbers: Numbers, step: int) -> None:
        """Add numbers of one optimiser step."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for name, value in numbers]
        self._try(lambda: self.client.log_batch(self.run_id, metrics=metrics))

    def close(self) -> None:
        """Say that the run has ended."""
        self._try(lambda: self.client.set_terminated(self.run_id))

    def _try(self, work: Any) -> None:
        try:
            work()
        except Exception as error:
            if not self.failed:
                warnings.warn(
                    f"MLflow doesn't take the numbers ({type(error).__name__}); they are all in "
                    "metrics.jsonl",
                    stacklevel=2,
                )
            self.failed = True


def open_tracker(config: PretrainConfig, folder: Path, step: int) -> Tracker | None:
    """What ``tracking`` asks for; None for none, and for ``auto`` without TensorBoard.

    Raises:
        UsageError: it is not installed, or cannot be reached.
    """
    wanted = config.tracking
    if wanted == "auto":
        wanted = "tensorboard" if installed("tensorboard") else "none"
    if wanted == "none":
        return None
    if not installed(wanted):
        raise UsageError(
            f"{wanted} is not installed",
            where="tracking",
            fix=f"pip install 'volta3d[{wanted}]', or tracking=none: metrics.jsonl has all numbers",
        )
    return MLflow(folder, config) if wanted == "mlflow" else TensorBoard(folder, step)


def installed(name: str) -> bool:
    """Whether a package is there, without importing it."""
    return find_spec(name) is not None


def about(config: PretrainConfig) -> str:
    """A line for the start of a run; empty where nothing is to be said."""
    if config.tracking == "auto" and not installed("tensorboard"):
        return (
            "No TensorBoard events are written; for them: pip install 'volta3d[tensorboard]' "
            "(metrics.jsonl has all numbers)"
        )
    return ""


def _flat(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
