"""Parts of a run done once, as the run does them, so that they can be timed and their memory seen.

What is started here is what ``pretrain`` starts: views, micro-steps and updates, the first look at
the data, a look of the monitors, a checkpoint.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from volta3d.cohort.contract import Contract
from volta3d.cohort.participants import complete
from volta3d.config import PretrainConfig
from volta3d.doctor.machine import synchronise
from volta3d.model.pair import build_pair
from volta3d.objective.schedules import Now
from volta3d.pretrain import checkpoint
from volta3d.pretrain.data import Scans
from volta3d.pretrain.monitor import AT_ONCE, Monitor
from volta3d.pretrain.optimiser import build_optimizer
from volta3d.pretrain.step import SelfDistillation
from volta3d.pretrain.trainer import Made
from volta3d.views.batch import ViewBatch
from volta3d.views.head import Head

REPEATS = 2  # of what is timed; the fastest counts
START_AT_ONCE = 8  # scans of one batch of the first look
FEW = 2  # scans that stand for a batch where only operations or seconds are wanted


def few(count: int) -> int:
    """So many scans of ``count``."""
    return min(FEW, count)


class Pretended(Scans):
    """Scans of noise in place of scans that are held in memory, or that nobody has named.

    Args:
        count: how many there are said to be; one is held.
        edge: of each, in voxels.
        contract: says the value range.
        device: where the batches are wanted.
    """

    def __init__(self, count: int, edge: int, contract: Contract, device: torch.device) -> None:
        self.device, self.contract = device, contract
        self.scan_ids = [str(place) for place in range(count)]
        self.participants = complete(pd.DataFrame({"scan_id": self.scan_ids}))
        self.held, self.trained = np.arange(0), np.arange(count)
        self._resident = None
        self.edges_mm = [contract.spacing * contract.size] * count
        self._heads = {place: Head(self.edges_mm[place]) for place in range(count)}
        self._noise = torch.rand(1, 1, edge, edge, edge, device=device)

    def __len__(self) -> int:
        return len(self.scan_ids)

    def batch(self, indices: object) -> Tensor:
        """[B, 1, D, H, W] in fp32 on the device, a copy each time."""
        return self._noise[[0] * len(np.asarray(indices))]


class Probe:
    """A run's network and optimiser, and the parts of the run.

    Args:
        scans: those of the run, or a pretence of them.
        config: the run that is planned.
        fabric: precision and device.
    """

    def __init__(self, scans: Scans, config: PretrainConfig, fabric: Fabric) -> None:
        self.scans, self.config, self.fabric = scans, config, fabric
        pair = build_pair(config.model, config.views.global_size, config.seed)
        self.distillation = SelfDistillation(pair, config).to(fabric.device)
        self.optimizer = build_optimizer(self.distillation, config.optim)
        self._turn = cycle(np.random.default_rng(config.seed).permutation(len(scans)).tolist())

    def draw(self, count: int) -> np.ndarray:
        """The next scans in a random order, so that none is read twice while others are left."""
        return np.array([next(self._turn) for _ in range(count)])

    def views(self, part: np.ndarray) -> ViewBatch:
        """The views of some scans, which are read for it."""
        return self.scans.views(part, self.config, 0)

    def micro(self, drawn: ViewBatch, now: Now) -> None:
        """Forward and backward of one micro-batch."""
        with self.fabric.autocast():
            losses, _ = self.distillation(drawn, now)
        self.fabric.backward(losses.total)

    def update(self) -> None:
        """The optimiser's step and the teacher's."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.distillation.pair.update_teacher(0.999)

    def start(self) -> float:
        """Seconds of the first look at the data, from one of its batches."""
        scans = min(self.config.objective.start_statistics, len(self.scans))
        if not scans:
            return 0.0
        part = self.draw(min(START_AT_ONCE, scans))

        def begin(part: np.ndarray) -> None:
            self.distillation.start_statistics(Made(self.views, [part]))

        if self.fabric.device.type == "cuda":
            begin(part[:1])  # a device's first products take longer
        return self.seconds(lambda: begin(part)) * scans / len(part)

    def look(self, now: Now) -> float:
        """Seconds of one look of the monitors, from one of its batches.

        Not counted is the probe of a column of participants.tsv.
        """
        quiet = self.config.monitor.model_copy(update={"probe": ""})
        monitor = Monitor(self.scans, self.config.model_copy(update={"monitor": quiet}))
        watched = len(monitor.indices)
        monitor.column = ""
        people = len(monitor.people)
        monitor.indices = monitor.indices[: min(max(self.config.batch_size, 4), AT_ONCE)]
        monitor.people = monitor.indices
        part, teacher = monitor.indices, self.distillation.pair.teacher

        @torch.no_grad()
        def similarity() -> None:
            drawn = monitor.views(part, self.scans.batch(part))
            teacher.summariser(teacher.encoder(drawn.global_views))

        with self.fabric.autocast(), tempfile.TemporaryDirectory() as folder:
            both = self.seconds(lambda: monitor.measure(self.distillation, now))
            of_views = min(both, self.seconds(similarity))
            rest = self.seconds(lambda: monitor.pictures(self.distillation, Path(folder), 0))
            held = len(monitor.indices[: min(self.config.batch_size, AT_ONCE)])
            monitor.indices = monitor.indices[: few(held)]
            norms = self.seconds(lambda: monitor.gradient_norms(self.distillation, now))
            rest += norms * held / few(held)
        whole = (both - of_views) / len(part) * watched
        return whole + of_views / len(part) * people + rest

    def operations(self, now: Now) -> float:
        """FLOP of a micro-step for each scan, counted on a few scans.

        To be called after the peak memory is read: the counter keeps what a checkpoint lets go.
        """
        count = few(min(self.config.batch_size, len(self.scans)))
        drawn = self.views(self.draw(count))
        with FlopCounterMode(display=False) as counter:
            self.micro(drawn, now)
        self.optimizer.zero_grad(set_to_none=True)
        return float(counter.get_total_flops()) / count

    def save(self, size: int) -> float | None:
        """Seconds of writing a checkpoint of ``size`` bytes to the folder for temporary files.

        None where that has no room for two of them.
        """
        if shutil.disk_usage(tempfile.gettempdir()).free < 2 * size:
            return None
        with tempfile.TemporaryDirectory() as folder:
            return self.seconds(
                lambda: checkpoint.save(
                    Path(folder),
                    distillation=self.distillation,
                    optimizer=self.optimizer,
                    progress=checkpoint.Progress(),
                    identity={},
                    keep=1,
                )
            )

    def seconds(self, work: Callable[[], object], repeats: int = 1) -> float:
        """The fastest of ``repeats``."""
        best = math.inf
        for _ in range(repeats):
            synchronise(self.fabric.device)
            started = time.perf_counter()
            work()
            synchronise(self.fabric.device)
            best = min(best, time.perf_counter() - started)
        return best
