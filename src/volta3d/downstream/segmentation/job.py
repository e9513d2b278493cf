"""One job of a segmentation: one arm trained on one fold, and the fold's scans outlined by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from volta3d.config import SegmentConfig
from volta3d.downstream.arms import Arm
from volta3d.downstream.segmentation.checkpoint import drop_kept
from volta3d.downstream.segmentation.fit import Fit, Task
from volta3d.downstream.segmentation.labelled import LabelledScans
from volta3d.downstream.segmentation.labelmap_files import volumes_of, write_labelmap
from volta3d.downstream.segmentation.native import largest_components, to_native
from volta3d.downstream.segmentation.networks import sound_bf16
from volta3d.downstream.segmentation.reference import References
from volta3d.downstream.segmentation.sliding import flip_passes
from volta3d.downstream.segmentation.starts import Starts
from volta3d.files import atomic_file, content_hash
from volta3d.statistics.splits import Splits

WEIGHTS = "weights.safetensors"
LATER = {"absent": "refuse"}  # settings younger than some checkpoints: what those were made with
Notify = Callable[[int, str], None]


@dataclass(frozen=True)
class Job:
    """One arm, one repetition, one fold."""

    arm: Arm
    seed: int
    fold: int

    @property
    def id(self) -> str:
        """Its name in the ledger."""
        return f"{self.arm.name}/seed={self.seed}/fold={self.fold}"

    @property
    def predictions(self) -> str:
        """The folder of its label maps below ``predictions/``."""
        return self.arm.name if self.seed == 0 else f"{self.arm.name}.seed{self.seed}"

    def folder(self, run: Path) -> Path:
        """Where its weights and metrics lie."""
        return run / "arms" / self.arm.name / f"seed-{self.seed}" / f"fold-{self.fold}"


class Surgeon:
    """Does jobs.

    Args:
        scans: all labelled scans.
        splits: who is tested where.
        starts: networks and their first weights.
        references: native grids and file names.
        config: settings.
        run: the run folder.
        bf16: whether networks run in bfloat16.
    """

    def __init__(
        self,
        scans: LabelledScans,
        splits: Splits,
        starts: Starts,
        references: References,
        config: SegmentConfig,
        run: Path,
        *,
        bf16: bool,
    ) -> None:
        self.scans, self.splits, self.starts = scans, splits, starts
        self.references, self.config, self.run, self.bf16 = references, config, run, bf16

    def do(self, job: Job, notify: Notify | None = None) -> dict[str, Any]:
        """Train, keep the weights, outline the test scans; what the ledger keeps of it.

        Raises:
            Diverged: the loss or a gradient is not finite.
            VoltaError: nothing can be written.
        """
        part = self.splits.part(job.fold, seed=job.seed)
        train, inner, test = (self._indices(s) for s in (part.train, part.inner, part.test))
        if self.config.selection != "inner":
            train, inner = sorted(train + inner), []
        judged = {"inner": inner, "paper": test, "last": []}[self.config.selection]
        seed = self.config.seed + job.seed
        network, report = self.starts.build(job.arm, seed)
        declared = self.starts.declared(job.arm)
        science = self.config.science()
        identity = {
            "settings": content_hash(science),
            "arm": content_hash(declared),
            "data": content_hash([self.scans.identity(), train, judged]),
        }
        before = {k: v for k, v in science.items() if k not in LATER or v != LATER[k]}
        earlier = {**identity, "settings": content_hash(before)}
        tune = self.starts.tune(job.arm)
        folder = job.folder(self.run)
        task = Task(train, judged, seed, tune, folder, identity, earlier)
        architecture = self.starts.architectures[job.arm.name]
        bf16 = self.bf16 and sound_bf16(architecture, self.config.crops.size, self.scans.device)
        fit = Fit(network, self.scans, task, self.config, bf16=bf16)
        fitted = fit.run(notify)
        tensors = {k: v.detach().cpu().contiguous() for k, v in fit.network.state_dict().items()}
        with atomic_file(folder / WEIGHTS) as temporary:
            save_file(tensors, temporary)
        return {
            "arm": job.arm.name,
            "seed": job.seed,
            "fold": job.fold,
            "epoch": fitted.epoch,
            "judged_dice": fitted.dice,
            "seconds": round(fitted.seconds, 1),
            "steps": fitted.steps,
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

    def _outline(self, job: Job, fit: Fit, index: int) -> dict[str, Any]:
        """Predict a test scan, write its label map in its own space, and say where."""
        with torch.no_grad():
            found = fit.predict(self.scans.volume(index), flip_passes(self.config.test_flips))
        native = self.references.grid(index)
        row = self.scans.rows[index]
        classes = to_native(found, self.scans.cohort.affine(row), native)
        if self.config.largest_component:
            classes = largest_components(classes)
        name = self.references.names[index]
        path = self.run / "predictions" / job.predictions / name
        write_labelmap(path, classes, native, self.scans.structures)
        return {
            **self.references.row(index),
            "fold": job.fold,
            "volumes": volumes_of(classes, native, self.scans.structures),
        }

    def _indices(self, subjects: Sequence[str]) -> list[int]:
        wanted = set(subjects)
        return [i for i, s in enumerate(self.scans.subjects) if s in wanted]
