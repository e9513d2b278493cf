"""One network trained on one part of the scans, judged as it goes, resumable between epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from volta3d.arms.prior import start_at_shares
from volta3d.arms.tuning import parameter_groups, train_encoder
from volta3d.config import SegmentConfig
from volta3d.downstream.segmentation.average import averaged, follow
from volta3d.downstream.segmentation.begun import check_epochs, finding, not_begun, sentence
from volta3d.downstream.segmentation.checkpoint import Kept, load_kept, save_kept
from volta3d.downstream.segmentation.crops import cut, draw_crop
from volta3d.downstream.segmentation.labelled import LabelledScans
from volta3d.downstream.segmentation.loss import DiceAndCrossEntropy
from volta3d.downstream.segmentation.memory_layout import fast_layout
from volta3d.downstream.segmentation.sliding import black_of, probabilities
from volta3d.downstream.segmentation.structures import pairs
from volta3d.errors import Diverged
from volta3d.pretrain.log import MetricsLog
from volta3d.randomness import numpy_generator

Notify = Callable[[int, str], None]


@dataclass(frozen=True)
class Task:
    """What is trained on what.

    Args:
        train: indices of the scans the weights are fitted to.
        judged: indices of the scans the epoch is chosen on; the last epoch is kept when it is empty
            or none of them has a structure.
        seed: of the crops and their order.
        tune: full, last, staged or frozen.
        folder: for metrics and the checkpoint.
        identity: what a resumed run must share.
        earlier: the same as earlier versions wrote it.
    """

    train: Sequence[int]
    judged: Sequence[int]
    seed: int
    tune: str
    folder: Path
    identity: dict[str, Any] = field(default_factory=dict)
    earlier: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True)
class Fitted:
    """What training came to; the network holds the weights of the epoch kept.

    Args:
        epoch: that epoch, counted from 1.
        dice: its mean Dice on the scans judged, prepared grid; None if none of those has a
            structure, or none was judged.
        seconds: spent, those before a resume included.
        steps: optimiser steps.
        findings: structures that never began, a sentence.
    """

    epoch: int
    dice: float | None
    seconds: float
    steps: int
    findings: tuple[str, ...] = ()


class Fit:
    """Trains one network.

    With ``config.average`` it is the moving average of the weights that is judged, kept and left in
    the network at the end.

    Args:
        network: its weights are changed.
        scans: all labelled scans.
        task: what is trained on what.
        config: settings.
        bf16: whether the network runs in bfloat16.
    """

    def __init__(
        self,
        network: nn.Module,
        scans: LabelledScans,
        task: Task,
        config: SegmentConfig,
        *,
        bf16: bool,
    ) -> None:
        self.scans, self.task, self.config, self.bf16 = scans, task, config, bf16
        if config.shares:
            start_at_shares(network, scans.shares(task.train, config.crops.size))
        self.network = fast_layout(network.to(scans.device))
        self.average = averaged(self.network) if config.average else None
        self.swapped = pairs(scans.structures)
        groups = parameter_groups(
            self.network,
            lr=config.lr,
            weight_decay=config.weight_decay,
            layer_decay=config.tune.layer_decay if task.tune != "frozen" else 1.0,
        )
        self.optimizer = torch.optim.AdamW(groups, fused=True)
        self.loss = DiceAndCrossEntropy(present_only=config.dice == "present")
        self.per_epoch = math.ceil(len(task.train) * config.crops.per_scan / config.batch_size)

    def run(self, notify: Notify | None = None) -> Fitted:
        """Train from where a checkpoint left off to the last epoch.

        Raises:
            Diverged: the loss or a gradient is not finite.
            CheckpointError: a checkpoint of other settings or data.
            VoltaError: nothing can be written.
        """
        state = (self.network, self.optimizer)
        task = self.task
        kept = load_kept(task.folder, *state, task.identity, self.average, task.earlier)
        log = MetricsLog(self.task.folder, step=kept.epoch * self.per_epoch)
        saved, findings = time.monotonic(), list[str]()
        try:
            for epoch in range(kept.epoch, self.config.epochs):
                started = time.perf_counter()
                loss = self.epoch(epoch)
                kept.epoch = epoch + 1
                dice = self._judge(kept)
                kept.seconds += time.perf_counter() - started
                log.write(self._record(kept, loss, dice))
                if notify is not None:
                    notify(kept.epoch, f"loss {loss:.3f}" + _so_far(kept))
                if kept.epoch in check_epochs(self.config.epochs):
                    findings = self._look(kept.epoch, log, notify)
                due = time.monotonic() - saved > 60 * self.config.checkpoint_minutes
                if due and kept.epoch < self.config.epochs:
                    save_kept(self.task.folder, *state, kept, self.task.identity, self.average)
                    saved = time.monotonic()
        finally:
            log.close()
        self._leave(kept)
        epoch = kept.best_epoch if kept.best is not None else kept.epoch
        steps = kept.epoch * self.per_epoch
        return Fitted(epoch, kept.best_dice, kept.seconds, steps, tuple(findings))

    def epoch(self, epoch: int) -> float:
        """Train one epoch; the mean loss.

        Raises:
            Diverged: the loss or a gradient is not finite.
        """
        self.network.train()
        train_encoder(self.network, self._trained_blocks(epoch))
        total = 0.0
        for step, part in enumerate(self.plan(epoch)):
            self._set_rate(epoch * self.per_epoch + step)
            images, labels = self.batch(part, epoch)
            with self._precision():
                logits = self.network(images)
            loss = self.loss(logits.float(), labels)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(
                [p for p in self.network.parameters() if p.grad is not None],
                self.config.clip or math.inf,
            )
            if not bool(torch.isfinite(loss)) or not bool(torch.isfinite(norm)):
                names = ", ".join(self.scans.scan_ids[i] for i, _ in part)
                raise Diverged(
                    f"The loss or its gradient is not finite in epoch {epoch + 1}",
                    where=names,
                    fix="Lower --set lr, or use --set precision=fp32; look at these scans",
                )
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            if self.average is not None:
                done = epoch * self.per_epoch + step
                follow(self.average, self.network, decay=self.config.average, step=done)
            total += float(loss.detach())
        return total / self.per_epoch

    def _trained_blocks(self, epoch: int) -> int | None:
        """How many of an encoder's last blocks are trained in an epoch; None: all of it."""
        tune = self.config.tune
        staged = 0 if epoch < tune.frozen_epochs else None
        return {"full": None, "last": tune.blocks, "staged": staged, "frozen": 0}[self.task.tune]

    def plan(self, epoch: int) -> list[list[tuple[int, int]]]:
        """The batches of an epoch, each of (scan, number of its crop)."""
        crops = [(i, n) for n in range(self.config.crops.per_scan) for i in self.task.train]
        order = numpy_generator(self.task.seed, "order", epoch).permutation(len(crops))
        size = self.config.batch_size
        return [[crops[j] for j in order[k : k + size]] for k in range(0, len(order), size)]

    def batch(self, part: Sequence[tuple[int, int]], epoch: int) -> tuple[Tensor, Tensor]:
        """Images [B, 1, S, S, S] and classes of some crops."""
        scans = self.scans
        crops = [
            draw_crop(
                (self.task.seed, epoch, scans.scan_ids[i], n),
                self.config.crops,
                scans.cohort.contract.size,
                scans.inside(i),
                [voxels for voxels in scans.voxels(i) if len(voxels)],
                self._turn(i, n, epoch) if self.config.crops.in_turn else None,
            )
            for i, n in part
        ]
        return cut(
            [scans.volume(i) for i, _ in part],
            [scans.label(i) for i, _ in part],
            crops,
            self.config.crops.size,
            blacks=[scans.blacks[i] for i, _ in part],
            value_range=scans.value_range,
            swapped=self.swapped,
        )

    def _turn(self, scan: int, crop: int, epoch: int) -> int:
        """Which structure a crop lies around: each in turn, over scans, crops and epochs.

        So no structure waits for its luck: with few scans and small batches a drawn one may be
        missed for tens of steps, and what starts late is then outlined as background.
        """
        return scan + crop + epoch

    def judge(self, indices: Sequence[int]) -> float | None:
        """Mean Dice over structures and scans, sliding windows on the prepared grid.

        As in ``evaluate``, what is neither in a scan nor in its outline is passed over: outlining
        nothing earns nothing. A structure that none of the scans has counts for nothing; None where
        that is all of them.
        """
        known = [c for c in self._classes() if any(self._has(index, c) for index in indices)]
        if not known:
            return None
        scores = []
        for index in indices:
            volume, truth = self.scans.volume(index), self.scans.label(index)
            classes = self.predict(volume).argmax(0)
            scores += [dice(classes == c, truth == c) for c in known]
        scored = [value for value in scores if not math.isnan(value)]
        return sum(scored) / len(scored)

    def predict(self, volume: Tensor, flips: tuple[tuple[int, ...], ...] = ((),)) -> Tensor:
        """Class probabilities [C, E, E, E] of a prepared volume."""
        network = self._judged().eval()
        with self._precision():
            return probabilities(
                network,
                volume,
                size=self.config.crops.size,
                overlap=self.config.overlap,
                batch=self.config.window_batch,
                background=black_of(volume, self.scans.cohort.contract),
                flips=flips,
                swapped=self.swapped,
            )

    def _classes(self) -> range:
        return range(1, len(self.scans.structures) + 1)

    def _has(self, index: int, structure: int) -> bool:
        """Whether a scan has a structure, by its class."""
        return len(self.scans.voxels(index)[structure - 1]) > 0

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.scans.device.type, torch.bfloat16, enabled=self.bf16)

    def _look(self, epoch: int, log: MetricsLog, notify: Notify | None) -> list[str]:
        """Say which structures have not begun, in metrics.jsonl, and as a line of progress."""
        late = not_begun(self.predict, self.scans, [*self.task.judged, *self.task.train])
        if not late:
            return []
        log.write({"step": epoch * self.per_epoch, **finding(late, epoch, self.config.epochs)})
        said = sentence(late, epoch, self.config.epochs)
        if notify is not None:
            notify(epoch, said)
        return [said]

    def _judge(self, kept: Kept) -> float | None:
        last = kept.epoch == self.config.epochs
        if not self.task.judged or not (last or kept.epoch % self.config.validate_epochs == 0):
            return None
        score = self.judge(self.task.judged)
        if score is not None and (kept.best_dice is None or score > kept.best_dice):
            kept.best_dice, kept.best_epoch = score, kept.epoch
            kept.best = {k: v.detach().clone() for k, v in self._judged().state_dict().items()}
        return score

    def _judged(self) -> nn.Module:
        """The weights that are judged and kept."""
        return self.network if self.average is None else self.average

    def _leave(self, kept: Kept) -> None:
        """The weights kept into the network; the average has done its work."""
        self.network.load_state_dict(kept.best or self._judged().state_dict())
        self.average = None

    def _set_rate(self, step: int) -> None:
        """Linear warm-up, then half a cosine to a hundredth."""
        warm = self.config.warmup_epochs * self.per_epoch
        whole = self.config.epochs * self.per_epoch
        if step < warm:
            factor = (step + 1) / warm
        else:
            part = (step - warm) / max(1.0, whole - warm)
            factor = 0.01 + 0.99 * (1 + math.cos(math.pi * part)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * group["scale"] * factor

    def _record(self, kept: Kept, loss: float, score: float | None) -> dict[str, Any]:
        record: dict[str, Any] = {
            "kind": "epoch",
            "step": kept.epoch * self.per_epoch,
            "epoch": kept.epoch,
            "loss": loss,
            "lr": self.optimizer.param_groups[-1]["lr"],
            "seconds": kept.seconds,
        }
        return record if score is None else {**record, "dice": score}


def dice(mask: Tensor, truth: Tensor) -> float:
    """2 |A and B| / (|A| + |B|) of two masks; NaN when both are empty."""
    total = int(mask.sum() + truth.sum())
    return 2 * int((mask & truth).sum()) / total if total else math.nan


def _so_far(kept: Kept) -> str:
    return "" if kept.best_dice is None else f", best Dice {kept.best_dice:.3f}"
