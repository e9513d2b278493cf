"""The trainer: an epoch of windows of micro-batches, each ending in one optimiser step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from volta3d.config import PretrainConfig
from volta3d.errors import Diverged
from volta3d.model.pair import build_pair
from volta3d.objective.schedules import Now, Schedule
from volta3d.pretrain import checkpoint, guard
from volta3d.pretrain.ahead import ahead
from volta3d.pretrain.data import Scans
from volta3d.pretrain.distributed import Ranks
from volta3d.pretrain.moments import TeacherMoments
from volta3d.pretrain.optimiser import apply_schedule, build_optimizer, clip_gradients
from volta3d.pretrain.step import SelfDistillation, logged
from volta3d.randomness import epoch_order
from volta3d.views.batch import ViewBatch


def windows(order: np.ndarray, batch_size: int, accumulate: int) -> list[list[np.ndarray]]:
    """An epoch's scans as windows of micro-batches; the last of either may be smaller."""
    micro = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    return [micro[i : i + accumulate] for i in range(0, len(micro), accumulate)]


class Made:
    """Batches that are made when their turn comes, each time anew.

    Args:
        make: the views of some scans.
        parts: which scans each batch holds.
    """

    def __init__(
        self, make: Callable[[np.ndarray], ViewBatch], parts: Sequence[np.ndarray]
    ) -> None:
        self.make, self.parts = make, parts

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[ViewBatch]:
        return map(self.make, self.parts)

    def __contains__(self, batch: object) -> bool:
        return False


class Fetched:
    """Numbers on their way from the device, so that it need not stand still for them.

    Args:
        values: a vector; its copy starts now.
    """

    def __init__(self, values: Tensor) -> None:
        self.copied: torch.cuda.Event | None = None
        self.values = values
        if values.is_cuda:
            self.values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self.values.copy_(values, non_blocking=True)
            self.copied = torch.cuda.Event()
            self.copied.record()

    def numbers(self) -> list[float]:
        """Wait for the copy, not for what was asked of the device after it."""
        if self.copied is not None:
            self.copied.synchronize()
        found: list[float] = self.values.tolist()
        return found


class Trainer:
    """One pretraining run, or one process's part of it.

    Args:
        scans: the data.
        config: the resolved configuration.
        fabric: precision and device.
    """

    def __init__(self, scans: Scans, config: PretrainConfig, fabric: Fabric) -> None:
        self.scans, self.config, self.fabric = scans, config, fabric
        pair = build_pair(config.model, config.views.global_size, config.seed)
        self.distillation = SelfDistillation(pair, config)
        optimizer = build_optimizer(self.distillation, config.optim)
        self.ranks = Ranks(fabric.global_rank, fabric.world_size)
        self.module, self.optimizer = fabric.setup(self.distillation, optimizer)
        self.parameters = [p for p in self.distillation.parameters() if p.requires_grad]
        per_epoch = windows(scans.trained, config.batch_size, config.accumulate)
        self.schedule = Schedule(config, steps_per_epoch=len(per_epoch))
        self.progress = checkpoint.Progress()

    def views(self, part: np.ndarray, epoch: int) -> ViewBatch:
        """The views of some scans in one epoch."""
        return self.scans.views(part, self.config, epoch)

    def order(self, epoch: int) -> np.ndarray:
        """The scans that are trained on in the order of one epoch."""
        trained = self.scans.trained
        order: np.ndarray = trained[epoch_order(len(trained), seed=self.config.seed, epoch=epoch)]
        return order

    def start_statistics(self) -> None:
        """Centres and standardiser from a first look at the data, where the settings ask for it."""
        count = self.config.objective.start_statistics
        if not count:
            return
        order = self.order(-1)[:count]
        parts = [order[i : i + 8] for i in range(0, len(order), 8)]
        self.distillation.start_statistics(Made(lambda part: self.views(part, -1), parts))

    def epoch(self, epoch: int, done: int) -> Iterator[dict[str, Any]]:
        """Train one epoch from window ``done`` on; yield a step record after each window."""
        plan = windows(self.order(epoch), self.config.batch_size, self.config.accumulate)
        parts = [self.ranks.part(part)[0] for window in plan[done:] for part in window]
        made = ahead(lambda part: self.views(part, epoch), parts, self.config.workers)
        for index in range(done, len(plan)):
            started = time.perf_counter()
            now = self.schedule.at(self.progress.step)
            values = self.window(plan[index], epoch, now, made)
            self.progress.step += 1
            self.progress.windows = index + 1
            seconds = time.perf_counter() - started
            yield {
                "kind": "step",
                "step": self.progress.step,
                "epoch": epoch + (index + 1) / len(plan),
                **logged(values),
                "weighted": {n: w * values.get(n, 0.0) for n, w in now.weights.items()},
                "cls_weight": now.weights["cls"],
                "lr": now.lr,
                "weight_decay": now.weight_decay,
                "momentum": now.momentum,
                "teacher_temperature": now.teacher_temperature,
                "scans_per_second": sum(map(len, plan[index])) / seconds,
            }

    def window(
        self,
        window: list[np.ndarray],
        epoch: int,
        now: Now,
        made: Iterator[ViewBatch] | None = None,
    ) -> dict[str, float]:
        """Accumulate the gradients of a window's micro-batches and take one optimiser step.

        ``made`` yields their views; without it they are made here.

        Raises:
            Diverged: a loss or gradient is not finite; weights, teacher and optimiser are as
                they were before the window's optimiser step.
        """
        faithful = self.config.optim.cadence == "micro_step"
        scans = sum(len(part) for part in window)
        total: dict[str, float] = {}
        moments: TeacherMoments | None = None
        apply_schedule(self.optimizer, now)
        for index, part in enumerate(window):
            own, counted = self.ranks.part(part)
            views = self.views(own, epoch) if made is None else next(made)
            # gradients are exchanged once a window: until then neither pass may expect it
            last = index + 1 == len(window)
            with self.fabric.no_backward_sync(self.module, enabled=not last):
                masked = self.ranks.masked(views.masks, counted, len(part))
                losses, seen = self.module(views, now, masked)
                fetched = Fetched(self.ranks.summed(counted / len(part) * losses.stacked()))
                # the exchange takes the mean over processes; what is wanted is the sum
                self.fabric.backward(losses.total * (self.ranks.world * counted / scans))
            values = losses.named(fetched.numbers())
            self.refuse_nonfinite(values, window, epoch)
            share = len(part) / scans
            total = {k: total.get(k, 0.0) + share * v for k, v in values.items()}
            seen = seen.scaled(counted / len(part))
            if faithful:
                self.distillation.update_statistics(seen.summed(self.ranks))
                self.distillation.pair.update_teacher(now.momentum)
            else:
                moments = seen.scaled(share).plus(moments)
        if now.freeze_prototypes:
            self.freeze_prototypes()
        norm = clip_gradients(self.parameters, self.config.optim.clip, self.config.optim.clip_by)
        total["gradient_norm"] = float(norm)
        self.refuse_nonfinite(total, window, epoch)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if moments is not None:
            self.distillation.update_statistics(moments.summed(self.ranks))
            self.distillation.pair.update_teacher(now.momentum)
        return total

    def freeze_prototypes(self) -> None:
        """Drop the gradient of both heads' last layers (METHOD section 6: first epoch)."""
        student = self.distillation.pair.student
        for head in (student.cls_head, student.patch_head):
            for parameter in head.last_layer.parameters():
                parameter.grad = None

    def refuse_nonfinite(
        self, values: dict[str, float], window: list[np.ndarray], epoch: int
    ) -> None:
        """Stop on NaN or infinity, naming the scans."""
        bad = guard.finite(values)
        if bad:
            self.optimizer.zero_grad(set_to_none=True)
            names = [self.scans.scan_ids[i] for part in window for i in part]
            raise Diverged(
                f"{', '.join(bad)} became NaN or infinite in epoch {epoch}, scans {names}",
                fix="The last checkpoint is intact. Look at these scans with 'volta3d inspect', "
                "lower lr, or use precision=fp32, then --resume",
            )
