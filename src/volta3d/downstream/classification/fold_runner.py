"""Does the jobs of a classification: fits an arm to one fold, predicts the fold's scans."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from volta3d.arms.classifier import ClassifierArm
from volta3d.arms.classifier import Notify as FitNotify
from volta3d.arms.fold_data import FoldData, FoldResult
from volta3d.arms.networks.classifier import Classifier
from volta3d.cohort.store import Cohort
from volta3d.config import ClassifyConfig
from volta3d.downstream.classification.crossfit import NOBODY, crossfit, groups_of
from volta3d.downstream.classification.fit import Learner
from volta3d.downstream.classification.fitted import remembered, save_fitted
from volta3d.downstream.classification.inputs import Cubes, stemmed
from volta3d.downstream.classification.labels import Labelled
from volta3d.downstream.classification.selection import youden_threshold
from volta3d.files import atomic_file, content_hash, sha256
from volta3d.grid.job import Job
from volta3d.grid.work import Notify
from volta3d.pretrain.data import Scans
from volta3d.randomness import derived_seed
from volta3d.statistics.splits import FINAL, Part, Splits


class ClassifyRunner:
    """Does jobs. Holds the scans and what frozen networks make of them.

    Args:
        cohort: the scans.
        labelled: the column.
        splits: who trains, validates, is tested.
        arms: by name.
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
        arms: dict[str, ClassifierArm],
        config: ClassifyConfig,
        run: Path,
        *,
        device: torch.device,
        bf16: bool,
    ) -> None:
        self.cohort, self.labelled, self.splits = cohort, labelled, splits
        self.arms, self.config, self.run = arms, config, run
        self.device, self.bf16 = device, bf16
        self._scans: dict[int, Scans] = {}
        self._stored: dict[str, Tensor | None] = {}

    @property
    def outputs(self) -> int:
        """Classes, or 1."""
        return max(1, len(self.labelled.labels))

    def do(self, job: Job, notify: Notify | None = None) -> dict[str, Any]:
        """Fit and predict; weights and model folders are written, the record is returned.

        Args:
            job: which.
            notify: called with the number of epochs done.
        """
        started = time.monotonic()
        arm = self.arms[job.arm]
        part = self.splits.part(job.fold, fraction=job.fraction, seed=job.seed)
        data = self._data(job, part)
        result, tensors = arm.fit(self, data, _epochs_alone(notify))
        chosen_on, scores = self._choosing_scores(arm, job, data, result)
        threshold = self._threshold(data, chosen_on, scores)
        sizes = {"train": len(data.train), "inner": len(data.inner), "test": len(data.test)}
        record = {
            **job.keys(),
            "split": part.hash,
            "sizes": sizes,
            "epoch": result.epoch,
            "history": result.history,
            "threshold": threshold,
            "baseline": None if data.classes else float(data.train_values.mean()),
            "facts": result.facts,
            "inner": self._predictions(chosen_on, scores),
            "test": self._predictions(data.test, result.test),
        }
        if job.fold == FINAL:
            self._keep_model(arm, data, result, tensors, threshold)
        elif self.config.keep_weights and job.fraction == 1 and job.seed == 0:
            file = self.run / "arms" / job.arm / "weights" / f"fold-{job.fold}.safetensors"
            plain = {k: v.cpu().contiguous() for k, v in result.tensors.items()}
            with atomic_file(file) as temporary:
                save_file(plain, temporary)
            record["weights_sha256"] = sha256(file)
        record["seconds"] = round(time.monotonic() - started, 2)
        return record

    def clean(self, job: Job) -> None:
        """Nothing but the record and the weights is left of a job."""

    def train(
        self,
        arm: ClassifierArm,
        network: Classifier,
        data: FoldData,
        notify: FitNotify | None = None,
    ) -> FoldResult:
        """Train a network on one fold."""
        learner = Learner(
            network,
            self.cubes(arm, data.views),
            self.labelled.rows,
            self.stemmed(arm, network) if network.has_stem else None,
            self.config,
            standardised=arm.head == "standardised",
            bf16=self.bf16,
        )
        return learner.learn(data, notify)

    def volumes(self, columns: Sequence[str]) -> np.ndarray:
        """Log volumes [n, columns] of the labelled scans."""
        table = self.cohort.participants.iloc[self.labelled.rows][list(columns)]
        volumes: np.ndarray = np.log(table.to_numpy(np.float64))
        return volumes

    def cubes(self, arm: ClassifierArm, views: int) -> Cubes:
        """The scans as an arm's network wants them."""
        if arm.downsample not in self._scans:
            self._scans[arm.downsample] = Scans(
                [self.cohort], downsample=arm.downsample, device=self.device
            )
        return Cubes(self._scans[arm.downsample], arm.image_size, self.config.augment, views)

    def stemmed(self, arm: ClassifierArm, network: Classifier) -> Tensor | None:
        """What the network's frozen part makes of the labelled scans, nothing augmented."""

        def stem(volumes: Tensor) -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                made: Tensor = network.stem(volumes)
            return made.float()

        network.eval()
        cubes = self.cubes(arm, 0)
        if arm.encoder is None:  # starts anew in every job
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

    def _data(self, job: Job, part: Part) -> FoldData:
        """What a job's fit is given; with ``epoch: last`` inner validation is trained on too."""
        inside = self.config.epoch == "last"
        train_subjects = (*part.train, *part.inner) if inside else part.train
        train = self.labelled.where(train_subjects)
        inner = NOBODY if inside else self.labelled.where(part.inner)
        groups = None
        if inside and self.config.threshold_folds:
            groups = groups_of(
                [self.labelled.subjects[i] for i in train],
                self.splits,
                fold=job.fold,
                seed=job.seed,
                groups=max(2, self.config.threshold_folds),
            )
        return FoldData(
            train=train,
            inner=inner,
            test=self.labelled.where(part.test),
            train_values=self.labelled.values[train],
            inner_values=self.labelled.values[inner],
            classes=len(self.labelled.labels),
            seed=derived_seed(self.config.seed, "classify", job.seed, job.fold),
            views=derived_seed(self.config.seed, "classify views", job.seed),
            groups=groups,
        )

    def _choosing_scores(
        self, arm: ClassifierArm, job: Job, data: FoldData, result: FoldResult
    ) -> tuple[np.ndarray, np.ndarray]:
        """The scans that a threshold is chosen on, and scores of fits that haven't seen them.

        Refits cost as much as the fit, several times, so they are made where a threshold is
        reported: for two classes and the whole training part.
        """
        wanted = data.groups is not None and data.classes == 2 and job.fraction == 1
        if not wanted:
            return data.inner, result.inner
        return data.train, crossfit(data, lambda part: arm.fit(self, part, None)[0].test)

    def _threshold(self, data: FoldData, positions: np.ndarray, scores: np.ndarray) -> float | None:
        """Youden's; None where it is undefined."""
        if data.classes != 2 or not len(positions):
            return None
        threshold = youden_threshold(self.labelled.values[positions] == 1, scores[:, 1])
        return None if math.isnan(threshold) else threshold

    def _predictions(self, positions: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
        return {
            "scan_id": [self.labelled.scan_ids[i] for i in positions],
            "scores": np.asarray(scores, np.float64).tolist(),
        }

    def _keep_model(
        self,
        arm: ClassifierArm,
        data: FoldData,
        result: FoldResult,
        tensors: dict[str, Tensor],
        threshold: float | None,
    ) -> None:
        people = self.cohort.participants.iloc[self.labelled.rows]
        scaling = {k: v for k, v in result.facts.items() if k in ("mean", "deviation")}
        save_fitted(
            self.run / "arms" / arm.name / "model",
            content={
                "kind": self.labelled.kind,
                "target": self.labelled.target,
                "labels": list(self.labelled.labels),
                "threshold": threshold,
                "architecture": {**arm.architecture(self.config), **scaling},
                "arm": arm.declared(),
                "epoch": result.epoch,
                "trained_on": {
                    "cohort_hash": self.cohort.hash(),
                    "scans": len(self.labelled.rows),
                    "subjects": len(set(self.labelled.subjects)),
                    "datasets": ", ".join(sorted(set(people["dataset"].astype(str)))),
                    "synthetic": self.cohort.contract.synthetic,
                    "inner": len(data.inner),
                    **remembered(people),
                },
            },
            tensors=tensors,
            contract=self.cohort.contract,
        )


def _epochs_alone(notify: Notify | None) -> FitNotify | None:
    if notify is None:
        return None
    return lambda epochs: notify(epochs, "")
