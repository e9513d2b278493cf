"""The pretraining loop: train, watch, save, and stop in time; resumable at every window."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from volta3d.config import PretrainConfig
from volta3d.errors import OutOfMemory
from volta3d.pretrain.alarms import Alarms
from volta3d.pretrain.data import Scans
from volta3d.pretrain.distributed import lost
from volta3d.pretrain.fabric import build_fabric
from volta3d.pretrain.log import MetricsLog, read_metrics
from volta3d.pretrain.monitor import Monitor, shares
from volta3d.pretrain.run import RunFolder, StopRequest
from volta3d.pretrain.scale import measured
from volta3d.pretrain.tracking import about as about_tracking
from volta3d.pretrain.tracking import open_tracker
from volta3d.pretrain.trainer import Trainer

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


def pretrain(
    cohorts: Sequence[Path],
    out: Path,
    config: PretrainConfig,
    *,
    exclude: Sequence[Path] = (),
    resume: bool = False,
    notify: Notify = lambda step, steps, text: None,
    tell: Callable[[str], None] = lambda text: None,
) -> PretrainResult:
    """Pretrain an encoder on prepared cohorts.

    Args:
        cohorts: folders that ``prepare`` made, with one preparation.
        out: the run folder; with ``resume`` it goes on where its newest checkpoint stands.
        exclude: cohorts whose people are not trained on, as ``audit`` recognises them.
        notify: called with (steps done, steps in all, a short text).
        tell: called by the first process before the first step, with how the scans are held.

    Raises:
        CohortError, CheckpointError, Diverged, Collapse, OutOfMemory, VoltaError: see their texts.
    """
    fabric = build_fabric(config)
    fabric.launch()
    warn_of_silence(config)
    warn_of_idle(config, fabric.world_size)
    folder = RunFolder(out, resume=resume)
    with enough_memory():
        scans = Scans.open(cohorts, config, fabric.device, exclude)
    if fabric.is_global_zero:
        tell(scans.about())
        tell(f"It sees {measured(config, scans.edges_mm).text()}")
        if about_tracking(config):
            tell(about_tracking(config))
    with lost(), enough_memory(), folder.locked(fabric.is_global_zero), StopRequest() as stop:
        trainer = Trainer(scans, config, fabric)
        folder.identify(config, scans, fabric)
        result = _run(trainer, folder, stop, notify)
        trainer.ranks.wait()  # nobody leaves, and with it ends the others, before all is written
        return result


def warn_of_silence(config: PretrainConfig) -> None:
    """Say so when the CLS loss would stay off until the end."""
    objective = config.objective
    if objective.cls and objective.cls_start_epoch >= config.epochs:
        warnings.warn(
            f"The CLS loss starts in epoch {objective.cls_start_epoch} and the run ends after "
            f"{config.epochs}: it stays off. Lower objective.cls_start_epoch, or train longer",
            stacklevel=3,
        )


def warn_of_idle(config: PretrainConfig, processes: int) -> None:
    """Say so when a micro-batch has fewer scans than there are processes."""
    if processes > config.batch_size:
        warnings.warn(
            f"{processes} processes share micro-batches of {config.batch_size}: "
            f"{processes - config.batch_size} of them have nothing to do. Raise batch_size and "
            "lower accumulate, or start fewer",
            stacklevel=3,
        )


@contextlib.contextmanager
def enough_memory() -> Iterator[None]:
    """Memory that ran out as what it means; nothing about the run is changed by itself.

    Raises:
        OutOfMemory: with what would help, first what leaves the results as they are.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _is_memory(error):
            raise
        raise OutOfMemory(
            "The memory is not enough for this run; its last checkpoint is as it was",
            fix="Add --set checkpointing=true, and --set data=stream if the scans are held in "
            "memory, and go on with --resume: the results stay as they are. Halve batch_size and "
            "double accumulate only in a new run, and neither with objective.koleo nor with "
            "optim.cadence=micro_step, which depend on the batch; volta3d doctor COHORT says what "
            "fits",
        ) from error


def _is_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


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
    log = None
    if ranks.first:
        tracker = open_tracker(config, folder.path, progress.step)
        log = MetricsLog(folder.path, step=progress.step, tracker=tracker)
    alarms = Alarms(trainer, monitor)
    try:
        if log and not restored:
            log.write(_watch(trainer, monitor, folder, 0))
        saved = time.monotonic()
        for epoch in range(progress.epoch, config.epochs):
            for record in trainer.epoch(epoch, progress.windows):
                if log:
                    log.write(record)
                    shown = {name: record[name] for name in ("loss", *trainer.distillation.names)}
                    text = "  ".join(f"{name} {value:.3f}" for name, value in shown.items())
                    notify(progress.step, steps, text)
                alarms.after_step(record, log)
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
                _look(trainer, monitor, folder, epoch + 1, log, alarms)
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
    trainer: Trainer,
    monitor: Monitor,
    folder: RunFolder,
    epoch: int,
    log: MetricsLog | None,
    alarms: Alarms,
) -> None:
    """Write an epoch's record and its alarms."""
    record: dict[str, Any] = {}
    if log:
        record = _watch(trainer, monitor, folder, epoch)
        log.write(record)
    alarms.after_epoch(record, read_metrics(folder.path / "metrics.jsonl") if log else [], log)


def _watch(trainer: Trainer, monitor: Monitor, folder: RunFolder, epoch: int) -> dict[str, Any]:
    now = trainer.schedule.at(max(trainer.progress.step - 1, 0))
    with trainer.fabric.autocast():
        record = monitor.measure(trainer.distillation, now)
        norms = monitor.gradient_norms(trainer.distillation, now)
        record |= {"gradient_norms": norms, "gradient_shares": shares(norms)}
        monitor.pictures(trainer.distillation, folder.path / "pictures", epoch)
    return {"kind": "epoch", "step": trainer.progress.step, "epoch": epoch, **record}
