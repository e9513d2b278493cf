"""What a run needs: parameters, operations, memory, hours and disk, from a short measured probe."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort
from volta3d.config import PretrainConfig
from volta3d.doctor.advice import advice
from volta3d.doctor.probe import REPEATS, Pretended, Probe
from volta3d.errors import CohortError
from volta3d.objective.schedules import Schedule
from volta3d.pretrain.ahead import ahead
from volta3d.pretrain.data import HELD, Scans
from volta3d.pretrain.fabric import build_fabric
from volta3d.pretrain.trainer import windows

UNKNOWN_SCANS = 100  # planned for when no cohort is given
UNKNOWN_EDGE = 128
LONG = 3.0  # seconds of a micro-step, above which it is done twice instead of six times


def plan_run(cohort: Cohort | None, config: PretrainConfig) -> dict[str, Any]:
    """Do a few micro-steps, one look of the monitors and one checkpoint as the run, and multiply.

    Returns:
        ``scans``; ``epochs``; ``steps`` of the optimiser; ``parameters`` trained; ``flops`` of the
        whole run, counted, not measured; ``seconds_per_step`` with the views and their reading
        included, ``seconds_views`` of those, and ``seconds_reading`` of those (0 when the scans are
        ``resident``, None when they are streamed and there is no cohort to read); ``parts``: the
        hours of ``training``, of the first look at the data (``start``), of the ``monitors``, the
        probe of a column left out, and of the ``checkpoints``, None where there is no room to try
        one; ``hours``: their sum; ``efficiency``: counted FLOP per second achieved by a micro-step;
        ``memory``: bytes the probe took at its peak, model, optimiser and activations, plus
        ``data`` bytes when the scans are ``resident``; ``memory_free`` before the probe; ``disk``
        bytes of checkpoints, encoder and pictures; ``problem``: why the cohort does not fit the
        configuration, or empty; ``advice`` on the memory, or empty.

        A run's peak is within a tenth of ``memory`` and ``data``, give or take 10 MB of libraries
        and of the allocator. What a CPU's allocator keeps of freed blocks differs from one process
        to the next, by a twentieth for small networks: two runs differ as much as run and plan.

    Source: METHOD section 6 for the step, DESIGN for what a run leaves on disk.
    """
    fabric = build_fabric(config)
    device = fabric.device
    scans = UNKNOWN_SCANS if cohort is None else len(cohort)
    edge = UNKNOWN_EDGE // config.views.downsample
    problem, stored = "", None
    if cohort is not None:
        try:
            stored = Scans(
                [cohort], downsample=config.views.downsample, device=device, keep="stream"
            )
            stored.check_fit(config)
            stored.hold_out(config.monitor.holdout, config.seed)
            edge = cohort.contract.size // config.views.downsample
        except CohortError as error:
            problem, stored = str(error), None
    edge = max(edge, config.views.global_size)
    data = (2 if config.views.downsample == 1 else 4) * scans * edge**3
    free = _free(device)  # before the probe takes its part of it
    resident = config.data == "resident" or (config.data == "auto" and data < HELD * free)
    trained_on = np.arange(scans) if stored is None else stored.trained
    epoch = windows(trained_on, config.batch_size, config.accumulate)
    micro_steps = sum(len(window) for window in epoch)
    schedule = Schedule(config, steps_per_epoch=len(epoch))
    last = schedule.at(schedule.steps - 1)

    memory = PeakMemory(device)
    read = stored if stored is not None and not resident else None
    contract = Contract(size=edge) if cohort is None else cohort.contract
    probe = Probe(read or Pretended(scans, edge, contract, device), config, fabric)
    batch = min(config.batch_size, scans)
    seconds_start = probe.start()
    once = [probe.views(probe.draw(batch))]
    first = probe.seconds(lambda: probe.micro(once[0], last))  # takes longer than the later ones
    probe.update()
    reading = None if cohort is None and not resident else 0.0
    if read is not None:
        reading = probe.seconds(lambda: read.batch(probe.draw(batch)), REPEATS)
    seconds_views = probe.seconds(lambda: probe.views(probe.draw(batch)), REPEATS)
    seconds_update = probe.seconds(probe.update, REPEATS)
    repeats, seconds_micro = 1, first
    if first < LONG:
        repeats = REPEATS
        seconds_micro = probe.seconds(lambda: probe.micro(once[0], last), REPEATS)
    once.clear()  # a run holds no batch beside the one at work and those made ahead
    made = ahead(probe.views, [probe.draw(batch) for _ in range(repeats + 2)], config.workers)
    if first < LONG:
        probe.micro(next(made), last)
    seconds_both = probe.seconds(lambda: probe.micro(next(made), last), repeats)  # views meanwhile
    seconds_micro = min(seconds_micro, seconds_both)
    list(made)
    probe.update()
    seconds_look = probe.look(last)
    state = _bytes(probe.distillation.state_dict())
    trained = sum(p.numel() for p in probe.distillation.parameters() if p.requires_grad)
    seconds_save = probe.save(state + 8 * trained)
    peak = memory.peak()
    flops = probe.operations(last) * len(trained_on) * config.epochs

    per_epoch = micro_steps * seconds_both + len(epoch) * seconds_update
    every = config.monitor.every_epochs
    looks = 1 + -(-config.epochs // every)  # before training, then the last epoch in any case
    seconds = {
        "training": per_epoch * config.epochs,
        "start": seconds_start,
        "monitors": looks * seconds_look,
    }
    saves = checkpoints_of(config, len(epoch), sum(seconds.values()))
    parts: dict[str, float | None] = {name: found / 3600 for name, found in seconds.items()}
    parts["checkpoints"] = None if seconds_save is None else saves * seconds_save / 3600
    checkpoints = (config.keep_checkpoints + 1) * (state + 8 * trained)
    pictures = (config.epochs // every + 2) * 3 * 13 * edge**3
    steps = micro_steps / len(epoch)
    return {
        "preset": config.preset,
        "scans": scans,
        "epochs": config.epochs,
        "steps": schedule.steps,
        "batch": config.batch_size * config.accumulate,
        "parameters": trained,
        "flops": flops,
        "seconds_per_step": per_epoch / len(epoch),
        "seconds_views": seconds_views * steps,
        "seconds_reading": None if reading is None else reading * steps,
        "parts": parts,
        "hours": sum(found for found in parts.values() if found is not None),
        "efficiency": flops / micro_steps / config.epochs / seconds_micro,
        "memory": peak,
        "data": data,
        "resident": resident,
        "memory_free": free,
        "disk": checkpoints + state // 2 + pictures,
        "problem": problem,
        "advice": advice(peak, free, config, data if resident else 0),
    }


def checkpoints_of(config: PretrainConfig, per_epoch: int, seconds: float) -> int:
    """How many checkpoints a run of so many seconds writes.

    Args:
        config: the run that is planned.
        per_epoch: optimiser steps of an epoch.
        seconds: of the whole run without its checkpoints.
    """
    steps = config.epochs * per_epoch
    by_time = 1 + int(seconds // (60 * config.checkpoint_minutes))
    if not config.checkpoint_steps:
        return min(steps, by_time)
    ends = range(per_epoch, steps + 1, per_epoch)
    within = [n for n in range(0, steps + 1, config.checkpoint_steps) if n % per_epoch]
    return min(steps, max(by_time, len(ends) + len(within)))


def _bytes(tensors: dict[str, torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _free(device: torch.device) -> int:
    """Bytes a run could take; what this process keeps of a device in reserve counts as free."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + kept)
    return int(psutil.virtual_memory().available)


class PeakMemory:
    """The most memory taken since this was made: of the device, or of this process on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
            return
        self.before = psutil.Process().memory_info().rss
        with contextlib.suppress(OSError):  # Linux: let the high-water mark start here
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def peak(self) -> int | None:
        """Bytes above what was taken before; None where the system does not tell."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device) - self.before)
        try:
            status = Path("/proc/self/status").read_text(encoding="ascii")
        except OSError:
            return None
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return max(0, 1024 * int(found[1]) - self.before) if found else None
