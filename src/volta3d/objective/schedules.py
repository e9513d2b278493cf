"""Values that change over training, each a pure function of the optimiser step (METHOD 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from volta3d.config import PretrainConfig


def cosine(start: float, end: float, fraction: float) -> float:
    """Half a cosine from ``start`` at fraction 0 to ``end`` at fraction 1."""
    fraction = min(max(fraction, 0.0), 1.0)
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * fraction))


def linear(start: float, end: float, fraction: float) -> float:
    """A straight line from ``start`` at fraction 0 to ``end`` at fraction 1, flat outside."""
    return start + (end - start) * min(max(fraction, 0.0), 1.0)


@dataclass(frozen=True)
class Now:
    """Every scheduled value at one optimiser step."""

    lr: float
    weight_decay: float
    momentum: float
    teacher_temperature: float
    cls_weight: float
    freeze_prototypes: bool


@dataclass(frozen=True)
class Schedule:
    """The schedules of one run.

    Args:
        config: the run's configuration.
        steps_per_epoch: optimiser steps in one epoch, an incomplete last window included.
    """

    config: PretrainConfig
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        """Optimiser steps in the whole run."""
        return self.config.epochs * self.steps_per_epoch

    def at(self, step: int) -> Now:
        """The values for the optimiser step number ``step``, counted from 0."""
        optim, objective = self.config.optim, self.config.objective
        epoch = step / self.steps_per_epoch
        progress = step / max(self.steps - 1, 1)
        warmup = min(optim.warmup_epochs * self.steps_per_epoch, self.steps / 2)
        if step < warmup:
            lr = self.config.lr * (step + 1) / math.ceil(warmup)
        else:
            after = (step - warmup) / max(self.steps - 1 - warmup, 1)
            lr = cosine(self.config.lr, optim.lr_end, after)
        sharpening = epoch / max(objective.teacher_temperature_epochs, 1e-9)
        ramp = (epoch - objective.cls_start_epoch) / max(objective.cls_ramp_epochs, 1e-9)
        share = linear(0.0, 1.0, ramp) if objective.cls_ramp_epochs else float(ramp >= 0)
        return Now(
            lr=lr,
            weight_decay=cosine(*optim.weight_decay, progress),
            momentum=cosine(*optim.momentum, progress),
            teacher_temperature=linear(*objective.teacher_temperature, sharpening),
            cls_weight=objective.cls * share,
            freeze_prototypes=epoch < optim.freeze_last_layer_epochs,
        )
