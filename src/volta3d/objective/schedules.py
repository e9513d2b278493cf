"""Values that change over training, each a pure function of the optimiser step (METHOD 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from volta3d.config import PretrainConfig
from volta3d.objective.curves import cosine, linear
from volta3d.objective.terms import weights_at


@dataclass(frozen=True)
class Now:
    """Every scheduled value at one optimiser step; ``weights`` are those of the loss terms."""

    lr: float
    weight_decay: float
    momentum: float
    teacher_temperature: float
    weights: dict[str, float]
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
        return Now(
            lr=lr,
            weight_decay=cosine(*optim.weight_decay, progress),
            momentum=cosine(*optim.momentum, progress),
            teacher_temperature=linear(*objective.teacher_temperature, sharpening),
            weights=weights_at(objective, epoch),
            freeze_prototypes=epoch < optim.freeze_last_layer_epochs,
        )
