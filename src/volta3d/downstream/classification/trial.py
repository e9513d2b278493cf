"""One job of the grid: an arm, a seed, a fraction of the training part, a fold; and who does it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from volta3d.cohort.store import Cohort
from volta3d.config import ClassifyConfig
from volta3d.downstream.classification.contestants import Contestant
from volta3d.downstream.classification.fit import Learner
from volta3d.downstream.classification.fitted import remembered, save_fitted
from volta3d.downstream.classification.inputs import Cubes, stemmed
from volta3d.downstream.classification.labels import Labelled
from volta3d.downstream.classification.linear import LinearLearner
from volta3d.downstream.classification.selection import youden_threshold
from volta3d.downstream.classification.told import Question, Told
from volta3d.files import atomic_file, content_hash, sha256
from volta3d.pretrain.data import Scans
from volta3d.randomness import derived_seed
from volta3d.statistics.splits import FINAL, Splits


@dataclass(frozen=True)
class Trial:
    """One job.

    Args:
        arm: its name.
        seed: which order of the training part, and which start.
        fraction: of the training part.
        fold: tested; ``FINAL`` fits the model that is kept.
    """

    arm: str
    seed: int
    fraction: float
    fold: int

    @property
    def job(self) -> str:
        """Its name in the ledger."""
        if self.fold == FINAL:
            return f"{self.arm}/final"
        return f"{self.arm}/seed={self.seed}/fraction={self.fraction:g}/fold={self.fold}"


class Worker:
    """Does trials. Holds the scans and what frozen networks make of them.

    Args:
        cohort: the scans.
        labelled: the column.
        splits: who trains, validates, is tested.
        contestants: by name.
        config: of the run.
        run: its folder.
        device: where networks live.
        bf16: whether they compute in bf16.
    """

    def __init__(
        self,
        cohort: Cohort,
        labelled: Labelled,
        splits: Splits,
        contestants: dict[str, Contestant],
        config: ClassifyConfig,
        run: Path,
        *,
        device: torch.device,
        bf16: bool,
    ) -> None:
        self.cohort, self.labelled, self.splits = cohort, labelled, splits
        self.contestants, self.config, self.run = contestants, config, run
        self.device, self.bf16 = device, bf16
        self._scans: dict[int, Scans] = {}
        self._stored: dict[str, Tensor | None] = {}

    @property
    def outputs(self) -> int:
        """Classes, or 1."""
        return max(1, len(self.labelled.labels))

    def do(self, trial: Trial, notify: Callable[[int], None] | None = None) -> dict[str, Any]:
        """Fit and predict; weights and model folders are written, the record is returned.

        Args:
            trial: which.
            notify: called with the number of epochs done.
        """
        started = time.monotonic()
        arm = self.contestants[trial.arm]
        part = self.splits.part(trial.fold, fraction=trial.fraction, seed=trial.seed)
        train, inner, test = (self.labelled.where(p) for p in (part.train, part.inner, part.test))
        values = self.labelled.values
        question = Question(
            train=train,
            inner=inner,
            test=test,
            train_values=values[train],
            inner_values=values[inner],
            classes=len(self.labelled.labels),
            seed=derived_seed(self.config.seed, "classify", trial.seed, trial.fold),
        )
        told, tensors = self._learn(arm, question, trial, notify)
        threshold = self._threshold(question, told)
        record = {
            **{"arm": trial.arm, "seed": trial.seed, "fraction": trial.fraction},
            "fold": trial.fold,
            "split": part.hash,
            "sizes": {"train": len(train), "inner": len(inner), "test": len(test)},
            "epoch": told.epoch,
            "history": told.history,
            "threshold": threshold,
            "baseline": None if question.classes else float(question.train_values.mean()),
            "facts": told.facts,
            "inner": self._predictions(inner, told.inner),
            "test": self._predictions(test, told.test),
        }
        if trial.fold == FINAL:
            self._keep_model(arm, question, told, tensors, threshold)
        elif self.config.keep_weights and trial.fraction == 1 and trial.seed == 0:
            file = self.run / "arms" / trial.arm / "weights" / f"fold-{trial.fold}.safetensors"
            plain = {k: v.cpu().contiguous() for k, v in told.tensors.items()}
            with atomic_file(file) as temporary:
                save_file(plain, temporary)
            record["weights_sha256"] = sha256(file)
        record["seconds"] = round(time.monotonic() - started, 2)
        return record

    def _learn(
        self,
        arm: Contestant,
        question: Question,
        trial: Trial,
        notify: Callable[[int], None] | None,
    ) -> tuple[Told, dict[str, Tensor]]:
        """The result, and all tensors of the model fitted."""
        balanced = self.config.class_weights == "balanced"
        if arm.kind == "volume":
            told = LinearLearner(self.volumes(arm), balanced=balanced).learn(question)
            return told, told.tensors
        network = arm.network(self.config, self.outputs, question.seed).to(self.device)
        cubes = self.cubes(arm, trial.seed)
        if arm.kind == "linear":
            features = self._stem(arm, network, cubes)
            assert features is not None
            told = LinearLearner(features.cpu().numpy(), balanced=balanced).learn(question)
            kept = {k: v for k, v in network.state_dict().items() if not k.startswith("head.")}
            return told, {**kept, **told.tensors}
        stored = self._stem(arm, network, cubes) if network.has_stem else None
        learner = Learner(
            network,
            cubes,
            self.labelled.rows,
            stored,
            self.config,
            standardised=arm.head == "standardised",
            bf16=self.bf16,
        )
        told = learner.learn(question, notify)
        return told, dict(network.state_dict())

    def volumes(self, arm: Contestant) -> np.ndarray:
        """Log volumes [n, columns] of the labelled scans."""
        table = self.cohort.participants.iloc[self.labelled.rows][list(arm.columns)]
        volumes: np.ndarray = np.log(table.to_numpy(np.float64))
        return volumes

    def cubes(self, arm: Contestant, seed: int) -> Cubes:
        """The scans as an arm's network wants them."""
        if arm.downsample not in self._scans:
            self._scans[arm.downsample] = Scans(
                [self.cohort], downsample=arm.downsample, device=self.device
            )
        varied = derived_seed(self.config.seed, "classify views", seed)
        return Cubes(self._scans[arm.downsample], arm.image_size, self.config.augment, varied)

    def _stem(self, arm: Contestant, network: Any, cubes: Cubes) -> Tensor | None:
        """What the network's frozen part makes of the labelled scans, nothing augmented."""

        def stem(volumes: Tensor) -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                made: Tensor = network.stem(volumes)
            return made.float()

        network.eval()
        if arm.encoder is None:  # starts anew in every trial
            return stemmed(cubes, stem, self.labelled.rows, None)
        key = content_hash(
            {
                **arm.declared(),
                "cohort": self.cohort.hash(),
                "rows": self.labelled.rows.tolist(),
                "tune": network.tune,
                "blocks": network.frozen_blocks,
                "pooling": self.config.pooling if network.tune == "frozen" else "",
                "bf16": self.bf16,
            }
        )
        if key not in self._stored:
            file = self.run / "features" / f"{key}.safetensors"
            self._stored[key] = stemmed(cubes, stem, self.labelled.rows, file)
        return self._stored[key]

    def _threshold(self, question: Question, told: Told) -> float | None:
        """Youden's, from inner validation; None where it is undefined."""
        if question.classes != 2:
            return None
        found = youden_threshold(question.inner_values == 1, told.inner[:, 1])
        return None if math.isnan(found) else found

    def _predictions(self, positions: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
        return {
            "scan_id": [self.labelled.scan_ids[i] for i in positions],
            "scores": np.asarray(scores, np.float64).tolist(),
        }

    def _keep_model(
        self,
        arm: Contestant,
        question: Question,
        told: Told,
        tensors: dict[str, Tensor],
        threshold: float | None,
    ) -> None:
        people = self.cohort.participants.iloc[self.labelled.rows]
        architecture: dict[str, Any] = {
            "type": arm.kind,
            "model": arm.model.content() if arm.model is not None else None,
            "image_size": arm.image_size,
            "downsample": arm.downsample,
            "pooling": self.config.pooling,
            **{k: v for k, v in told.facts.items() if k in ("mean", "deviation")},
        }
        if arm.kind == "volume":
            architecture["columns"] = list(arm.columns)
        save_fitted(
            self.run / "arms" / arm.name / "model",
            content={
                "kind": self.labelled.kind,
                "target": self.labelled.target,
                "labels": list(self.labelled.labels),
                "threshold": threshold,
                "architecture": architecture,
                "arm": arm.declared(),
                "epoch": told.epoch,
                "trained_on": {
                    "cohort_hash": self.cohort.hash(),
                    "scans": len(self.labelled.rows),
                    "subjects": len(set(self.labelled.subjects)),
                    "datasets": ", ".join(sorted(set(people["dataset"].astype(str)))),
                    "synthetic": self.cohort.contract.synthetic,
                    "inner": len(question.inner),
                    **remembered(people),
                },
            },
            tensors=tensors,
            contract=self.cohort.contract,
        )
