"""The pretraining loop: epochs of windows of micro-batches, resumable at every window."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.strategies.ddp import DDPStrategy

from volta3d.config import PretrainConfig
from volta3d.errors import Collapse, Diverged
from volta3d.model.pair import build_pair
from volta3d.objective.schedules import Now, Schedule
from volta3d.pretrain import checkpoint, guard
from volta3d.pretrain.ahead import ahead
from volta3d.pretrain.data import Scans
from volta3d.pretrain.distributed import Ranks, launched, lost
from volta3d.pretrain.log import MetricsLog
from volta3d.pretrain.monitor import Monitor
from volta3d.pretrain.optimiser import apply_schedule, build_optimizer, clip_gradients
from volta3d.pretrain.run import RunFolder, StopRequest
from volta3d.pretrain.step import Losses, SelfDistillation, TeacherMoments
from volta3d.randomness import epoch_order
from volta3d.views.batch import ViewBatch, make_views

START_SCANS = 64  # the statistics start from this many scans

Notify = Callable[[int, int, str], None]


@dataclass
class PretrainResult:
    """What a run came to; ``rank`` is this process's number and ``data`` how scans were held."""

    run: Path
    encoder: Path
    step: int
    alarms: list[str]
    first: dict[str, Any] | None
    last: dict[str, Any] | None
    rank: int = 0
    data: str = ""


def windows(order: np.ndarray, batch_size: int, accumulate: int) -> list[list[np.ndarray]]:
    """An epoch's scans as windows of micro-batches; the last of either may be smaller."""
    micro = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    return [micro[i : i + accumulate] for i in range(0, len(micro), accumulate)]


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
        per_epoch = windows(np.arange(len(scans)), config.batch_size, config.accumulate)
        self.schedule = Schedule(config, steps_per_epoch=len(per_epoch))
        self.progress = checkpoint.Progress()

    def views(self, part: np.ndarray, epoch: int) -> ViewBatch:
        """The views of some scans in one epoch."""
        return make_views(
            self.scans.batch(part),
            [self.scans.scan_ids[i] for i in part],
            epoch=epoch,
            seed=self.config.seed,
            views=self.config.views,
            masking=self.config.masking,
            value_range=self.scans.contract.value_range,
        )

    def start_statistics(self) -> None:
        """Centres and standardiser from a first look at the data, before any training."""
        order = epoch_order(len(self.scans), seed=self.config.seed, epoch=-1)[:START_SCANS]
        parts = [order[i : i + 8] for i in range(0, len(order), 8)]
        self.distillation.start_statistics([self.views(part, -1) for part in parts])

    def epoch(self, epoch: int, done: int) -> Iterator[dict[str, Any]]:
        """Train one epoch from window ``done`` on; yield a step record after each window."""
        order = epoch_order(len(self.scans), seed=self.config.seed, epoch=epoch)
        plan = windows(order, self.config.batch_size, self.config.accumulate)
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
                **values,
                "cls_weight": now.cls_weight,
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
                losses, seen = self.module(views, now)
                values = self.shared(losses, counted / len(part))
                self.refuse_nonfinite(values, window, epoch)
                # the exchange takes the mean over processes; what is wanted is the sum
                self.fabric.backward(losses.total * (self.ranks.world * counted / scans))
            share = len(part) / scans
            total = {k: total.get(k, 0.0) + share * v for k, v in values.items()}
            seen = seen.scaled(counted / len(part)).summed(self.ranks)
            if faithful:
                self.distillation.update_statistics(seen)
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
            self.distillation.update_statistics(moments)
            self.distillation.pair.update_teacher(now.momentum)
        return total

    def shared(self, losses: Losses, weight: float) -> dict[str, float]:
        """The losses of a micro-batch over all processes, fetched from the device at once."""
        return losses.named(self.ranks.summed(weight * losses.stacked()).tolist())

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


class Autocast(MixedPrecision):
    """bf16 inside the network only: Fabric's own plugin would round the views, and with them the
    targets of the reconstruction, before the network sees them."""

    def convert_input(self, data: Any) -> Any:
        """The data as they are."""
        return data

    def convert_output(self, data: Any) -> Any:
        """The losses as they are, fp32 already."""
        return data


def uses_bf16(config: PretrainConfig, device: torch.device) -> bool:
    """Whether to train in bf16; ``auto`` says so only where the hardware multiplies it.

    A CPU without bf16 instructions emulates them about a hundred times slower than fp32.
    """
    if config.precision != "auto":
        return config.precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def build_fabric(config: PretrainConfig) -> Fabric:
    """Fabric on the configured device, in the configured precision."""
    use_cuda = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    device = torch.device("cuda" if use_cuda else "cpu")
    started = launched()
    bf16 = uses_bf16(config, device)
    together: dict[str, Any] = {}
    if started.here * started.machines > 1:
        # centres and statistics are the same everywhere already
        together["strategy"] = DDPStrategy(broadcast_buffers=False)
    return Fabric(
        accelerator=device.type,
        devices=started.here,
        num_nodes=started.machines,
        plugins=[Autocast("bf16-mixed", device.type)] if bf16 else None,
        precision=None if bf16 else "32-true",
        **together,
    )


def pretrain(
    cohorts: Sequence[Path],
    out: Path,
    config: PretrainConfig,
    *,
    exclude: Sequence[Path] = (),
    resume: bool = False,
    notify: Notify = lambda step, steps, text: None,
) -> PretrainResult:
    """Pretrain an encoder on prepared cohorts.

    Args:
        cohorts: folders that ``prepare`` made, with one preparation.
        out: the run folder; with ``resume`` it goes on where its newest checkpoint stands.
        exclude: cohorts whose people are not trained on, as ``audit`` recognises them.
        notify: called with (steps done, steps in all, a short text).

    Raises:
        CohortError, CheckpointError, Diverged, Collapse, VoltaError: see their texts.
    """
    fabric = build_fabric(config)
    fabric.launch()
    folder = RunFolder(out, resume=resume)
    scans = Scans.open(cohorts, config, fabric.device, exclude)
    with lost(), folder.locked(fabric.is_global_zero), StopRequest() as stop:
        trainer = Trainer(scans, config, fabric)
        folder.identify(config, scans)
        result = _run(trainer, folder, stop, notify)
        trainer.ranks.wait()  # nobody leaves, and with it ends the others, before all is written
        return result


def _run(trainer: Trainer, folder: RunFolder, stop: StopRequest, notify: Notify) -> PretrainResult:
    config, ranks, monitor = trainer.config, trainer.ranks, Monitor(trainer.scans, trainer.config)
    restored = folder.restore(trainer)
    if ranks.first:
        folder.describe(config, trainer.scans, trainer.fabric)
    if restored:
        trainer.progress = restored
    else:
        trainer.start_statistics()
    progress, steps = trainer.progress, trainer.schedule.steps
    log = MetricsLog(folder.path, step=progress.step) if ranks.first else None
    try:
        if log and not restored:
            log.write(_watch(trainer, monitor, folder, 0))
        saved = time.monotonic()
        for epoch in range(progress.epoch, config.epochs):
            for record in trainer.epoch(epoch, progress.windows):
                if log:
                    log.write(record)
                    text = f"loss {record['loss']:.3f}  cls {record['cls']:.3f}"
                    notify(progress.step, steps, text)
                stop.agree(ranks, trainer.fabric.device)
                if progress.windows < trainer.schedule.steps_per_epoch:
                    due = time.monotonic() - saved > 60 * config.checkpoint_minutes
                    every = config.checkpoint_steps
                    if due or stop.asked or (every and progress.step % every == 0):
                        folder.save(trainer)
                        saved = time.monotonic()
                        stop.leave_if_asked(folder.path, progress.step)
            last = epoch + 1 == config.epochs
            if last or (epoch + 1) % config.monitor.every_epochs == 0:
                _look(trainer, monitor, folder, epoch + 1, log)
            progress.epoch, progress.windows = epoch + 1, 0
            due = time.monotonic() - saved > 60 * config.checkpoint_minutes
            if last or due or stop.asked or config.checkpoint_steps:
                folder.save(trainer)
                saved = time.monotonic()
                if not last:
                    stop.leave_if_asked(folder.path, progress.step)
    finally:
        if log:
            log.close()
    return folder.finish(trainer)


def _look(
    trainer: Trainer, monitor: Monitor, folder: RunFolder, epoch: int, log: MetricsLog | None
) -> None:
    """Write an epoch's record and its alarms; all processes stop if one alarm asks for it."""
    collapse: Collapse | None = None
    if log:
        record = _watch(trainer, monitor, folder, epoch)
        log.write(record)
        collapse = _alarms(trainer, monitor, record, log)
    if trainer.ranks.any(collapse is not None, trainer.fabric.device):
        raise collapse or Collapse("The run was stopped for its alarms", where=folder.path)


def _watch(trainer: Trainer, monitor: Monitor, folder: RunFolder, epoch: int) -> dict[str, Any]:
    now = trainer.schedule.at(max(trainer.progress.step - 1, 0))
    with trainer.fabric.autocast():
        record = monitor.measure(trainer.distillation, now)
        record["gradient_norms"] = monitor.gradient_norms(trainer.distillation, now)
        monitor.pictures(trainer.distillation, folder.path / "pictures", epoch)
    return {"kind": "epoch", "step": trainer.progress.step, "epoch": epoch, **record}


def _alarms(
    trainer: Trainer, monitor: Monitor, record: dict[str, Any], log: MetricsLog
) -> Collapse | None:
    """Log the alarms of an epoch; the error that stops the run where the configuration wants it."""
    settings = trainer.config.monitor
    if record["epoch"] < settings.alarm_after_epochs:
        return None
    found = guard.alarms(
        record,
        scans=len(monitor.indices),
        standardised=trainer.distillation.standardised,
    )
    for alarm in found:
        log.write({**alarm.record(), "step": record["step"], "epoch": record["epoch"]})
    if found and settings.alarm == "stop":
        first = found[0]
        return Collapse(
            f"Collapse at epoch {record['epoch']}: {first.what} "
            f"({first.name} {first.value:.3g}, limit {first.limit:.3g})",
            fix="See docs/explanation/collapse.md; preset 'stable' guards against it",
        )
    return None
