"""What a run needs: parameters, operations, memory, hours and disk, from a short measured probe."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from volta3d.cohort.store import Cohort
from volta3d.config import PretrainConfig
from volta3d.doctor.machine import synchronise
from volta3d.errors import CohortError
from volta3d.model.pair import build_pair
from volta3d.objective.schedules import Now, Schedule
from volta3d.pretrain.ahead import ahead
from volta3d.pretrain.data import Scans
from volta3d.pretrain.fabric import build_fabric
from volta3d.pretrain.optimiser import build_optimizer
from volta3d.pretrain.step import SelfDistillation
from volta3d.pretrain.trainer import windows
from volta3d.views.batch import ViewBatch, make_views

UNKNOWN_SCANS = 100  # planned for when no cohort is given
UNKNOWN_EDGE = 128
REPEATS = 2  # timed micro-steps; the fastest counts


def plan_run(cohort: Cohort | None, config: PretrainConfig) -> dict[str, Any]:
    """Run a few micro-steps as the run would, and multiply.

    Returns:
        ``scans``; ``epochs``; ``steps`` of the optimiser; ``parameters`` trained; ``flops`` of the
        whole run, counted, not measured; ``seconds_per_step`` with the views included and
        ``seconds_views`` of those; ``hours``; ``efficiency``: counted FLOP per second achieved by a
        micro-step; ``memory``: bytes the probe took at its peak, model, optimiser and activations,
        plus ``data`` bytes when the scans are ``resident``; ``disk`` bytes of checkpoints, encoder
        and pictures; ``problem``: why the cohort does not fit the configuration, or empty.

    Source: METHOD section 6 for the step, DESIGN for what a run leaves on disk.
    """
    fabric = build_fabric(config)
    device = fabric.device
    scans = UNKNOWN_SCANS if cohort is None else len(cohort)
    edge = UNKNOWN_EDGE // config.views.downsample
    problem = ""
    if cohort is not None:
        try:
            Scans([cohort], downsample=config.views.downsample, keep="stream").check_fit(config)
            edge = cohort.contract.size // config.views.downsample
        except CohortError as error:
            problem = str(error)
    edge = max(edge, config.views.global_size)
    epoch = windows(np.arange(scans), config.batch_size, config.accumulate)
    micro_steps = sum(len(window) for window in epoch)
    schedule = Schedule(config, steps_per_epoch=len(epoch))

    memory = PeakMemory(device)
    volumes = torch.rand(config.batch_size, 1, edge, edge, edge, device=device)
    distillation = SelfDistillation(
        build_pair(config.model, config.views.global_size, config.seed), config
    ).to(device)
    optimizer = build_optimizer(distillation, config.optim)

    def views() -> ViewBatch:
        return make_views(
            volumes,
            [str(i) for i in range(config.batch_size)],
            epoch=0,
            seed=config.seed,
            views=config.views,
            masking=config.masking,
            value_range=(0.0, 1.0),
        )

    def micro(drawn: ViewBatch, now: Now) -> None:
        with fabric.autocast():
            losses, _ = distillation(drawn, now)
        fabric.backward(losses.total)

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        distillation.pair.update_teacher(0.999)

    last = schedule.at(schedule.steps - 1)
    once = [views()]
    with FlopCounterMode(display=False) as counter:
        micro(once[0], last)
    update()
    flops = counter.get_total_flops() * micro_steps * config.epochs
    seconds_views = _fastest(views, device)
    seconds_micro = _fastest(lambda: micro(once[0], last), device)
    seconds_update = _fastest(update, device)
    once.clear()  # a run holds no batch beside the one at work and those made ahead
    made = ahead(lambda _: views(), range(REPEATS + 2), config.workers)
    micro(next(made), last)
    seconds_both = _fastest(lambda: micro(next(made), last), device)  # views made meanwhile
    list(made)
    peak = memory.peak()
    per_epoch = micro_steps * seconds_both + len(epoch) * seconds_update

    data = (2 if config.views.downsample == 1 else 4) * scans * edge**3
    free = _free(device)
    state = sum(t.numel() * t.element_size() for t in distillation.state_dict().values())
    trained = sum(p.numel() for p in distillation.parameters() if p.requires_grad)
    checkpoints = (config.keep_checkpoints + 1) * (state + 8 * trained)
    pictures = (config.epochs // config.monitor.every_epochs + 2) * 3 * 13 * edge**3
    return {
        "preset": config.preset,
        "scans": scans,
        "epochs": config.epochs,
        "steps": schedule.steps,
        "batch": config.batch_size * config.accumulate,
        "parameters": trained,
        "flops": flops,
        "seconds_per_step": per_epoch / len(epoch),
        "seconds_views": seconds_views * micro_steps / len(epoch),
        "hours": per_epoch * config.epochs / 3600,
        "efficiency": flops / micro_steps / config.epochs / seconds_micro,
        "memory": peak,
        "data": data,
        "resident": config.data == "resident" or (config.data == "auto" and data < 0.4 * free),
        "memory_free": free,
        "disk": checkpoints + state // 2 + pictures,
        "problem": problem,
        "advice": advice(peak, free, config),
    }


def advice(memory: int | None, free: int, config: PretrainConfig) -> str:
    """What to change when the run would not fit in memory; empty when it fits or is unknown.

    Args:
        memory: bytes a micro-step takes at its peak.
        free: bytes there are.
    """
    if memory is None or memory < 0.9 * free:
        larger = _larger(memory, free, config)
        if larger == config.batch_size:
            return ""
        return (
            f"Room for batch_size={larger} and accumulate="
            f"{config.accumulate * config.batch_size // larger}: larger products, the same window"
        )
    keep = "" if config.checkpointing else "checkpointing=true (a third more time), or "
    if config.batch_size > 1:
        half = math.ceil(config.batch_size / 2)
        return (
            f"Does not fit: set {keep}batch_size={half} and "
            f"accumulate={config.accumulate * config.batch_size // half}"
        )
    if keep:
        return f"Does not fit at batch 1: set {keep}use a smaller model or fewer views"
    return "Does not fit at batch 1: use a smaller model or fewer and smaller views"


def _larger(memory: int | None, free: int, config: PretrainConfig) -> int:
    """The largest multiple of the batch that divides the window and takes half of what is free."""
    batch = config.batch_size
    if memory is None or config.optim.cadence == "micro_step":
        return batch  # with this cadence the batch is part of the science
    while config.accumulate * config.batch_size % (2 * batch) == 0:
        if 2 * batch // config.batch_size * memory > free / 2:
            break
        batch *= 2
    return batch


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    best = math.inf
    for _ in range(REPEATS):
        synchronise(device)
        started = time.perf_counter()
        work()
        synchronise(device)
        best = min(best, time.perf_counter() - started)
    return best


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
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
