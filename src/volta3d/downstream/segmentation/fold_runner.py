"""Does the jobs of a segmentation: trains an arm on one fold, outlines the fold's scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from volta3d.arms.segmenter import SegmenterArm, sound_bf16
from volta3d.artefacts import FOLD_WEIGHTS, PREDICTIONS
from volta3d.config import SegmentConfig
from volta3d.downstream.segmentation.checkpoint import drop_kept
from volta3d.downstream.segmentation.fit import Fit, Task
from volta3d.downstream.segmentation.labelled import LabelledScans
from volta3d.downstream.segmentation.labelmap_files import volumes_of, write_labelmap
from volta3d.downstream.segmentation.native import largest_components, to_native
from volta3d.downstream.segmentation.reference import References
from volta3d.downstream.segmentation.sliding import flip_passes
from volta3d.files import atomic_file, content_hash
from volta3d.grid.job import Job
from volta3d.grid.work import Notify
from volta3d.statistics.splits import Splits

# settings younger than some checkpoints, and what those were made with
YOUNGER: tuple[dict[str, Any], ...] = ({}, {"absent": "refuse"})


class SegmentRunner:
    """Does jobs.

    Args:
        scans: all labelled scans.
        splits: who is tested where.
        arms: by name.
        references: native grids and file names.
        config: settings.
        run: the run folder.
        bf16: whether networks run in bfloat16.
    """

    def __init__(
        self,
        scans: LabelledScans,
        splits: Splits,
        arms: Mapping[str, SegmenterArm],
        references: References,
        config: SegmentConfig,
        run: Path,
        *,
        bf16: bool,
    ) -> None:
        self.scans, self.splits, self.arms = scans, splits, arms
        self.references, self.config, self.run, self.bf16 = references, config, run, bf16

    def do(self, job: Job, notify: Notify | None = None) -> dict[str, Any]:
        """Train, keep the weights, outline the test scans; what the ledger keeps of it.

        Raises:
            Diverged: the loss or a gradient is not finite.
            VoltaError: nothing can be written.
        """
        arm = self.arms[job.arm]
        part = self.splits.part(job.fold, fraction=job.fraction, seed=job.seed)
        train, inner, test = (self._indices(s) for s in (part.train, part.inner, part.test))
        if self.config.selection != "inner":
            train, inner = sorted(train + inner), []
        judged = {"inner": inner, "paper": test, "last": []}[self.config.selection]
        seed = self.config.seed + job.seed
        network, report = arm.build(seed, self.config, self.scans.cohort.contract)
        identity, earlier = self._identity(arm, train, judged)
        folder = job.folder(self.run)
        task = Task(train, judged, seed, arm.tune, folder, identity, earlier)
        bf16 = self.bf16 and sound_bf16(arm.architecture, self.config.crops.size, self.scans.device)
        fit = Fit(network, self.scans, task, self.config, bf16=bf16)
        fitted = fit.run(notify)
        tensors = {k: v.detach().cpu().contiguous() for k, v in fit.network.state_dict().items()}
        with atomic_file(folder / FOLD_WEIGHTS) as temporary:
            save_file(tensors, temporary)
        return {
            **job.keys(),
            "epoch": fitted.epoch,
            "judged_dice": fitted.dice,
            "seconds": round(fitted.seconds, 1),
            "steps": fitted.steps,
            "findings": list(fitted.findings),
            "bf16": bf16,
            "loaded": report.content() if report else None,
            "scans": {"train": len(train), "judged": len(judged), "test": len(test)},
            "subjects": len(part.train)
            + (0 if self.config.selection == "inner" else len(part.inner)),
            "predicted": [self._outline(job, fit, i) for i in test],
        }

    def clean(self, job: Job) -> None:
        """Remove the checkpoint of a job that is in the ledger."""
        drop_kept(job.folder(self.run))

    def _identity(
        self, arm: SegmenterArm, train: Sequence[int], judged: Sequence[int]
    ) -> tuple[dict[str, Any], tuple[dict[str, Any], ...]]:
        """What a checkpoint must share with this call, and how earlier versions wrote the same."""
        science = {
            **self.config.science(),
            "preset": self.config.preset,
            "seeds": self.config.seeds,
        }
        identity = {
            "settings": content_hash(self.config.science()),
            "arm": content_hash(arm.declared()),
            "data": content_hash([self.scans.identity(), train, judged]),
        }
        versions = []
        for younger in YOUNGER:
            before = {k: v for k, v in science.items() if k not in younger or v != younger[k]}
            versions.append({**identity, "settings": content_hash(before)})
        return identity, tuple(versions)

    def _outline(self, job: Job, fit: Fit, index: int) -> dict[str, Any]:
        """Predict a test scan, write its label map in its own space, and say where."""
        with torch.no_grad():
            probabilities = fit.predict(
                self.scans.volume(index), flip_passes(self.config.test_flips)
            )
        native = self.references.grid(index)
        row = self.scans.rows[index]
        classes = to_native(probabilities, self.scans.cohort.affine(row), native)
        if self.config.largest_component:
            classes = largest_components(classes)
        name = self.references.names[index]
        path = self.run / PREDICTIONS / job.predictions / name
        write_labelmap(path, classes, native, self.scans.structures)
        return {
            **self.references.row(index),
            "fold": job.fold,
            "volumes": volumes_of(classes, native, self.scans.structures),
        }

    def _indices(self, subjects: Sequence[str]) -> list[int]:
        wanted = set(subjects)
        return [i for i, s in enumerate(self.scans.subjects) if s in wanted]
