"""Means of what the teacher put out; centres and standardiser move by them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from volta3d.pretrain.distributed import Ranks


@dataclass  # not frozen: Fabric casts what a module returns in place
class TeacherMoments:
    """Means over a micro-batch, without those that no loss term uses.

    Args:
        values: ``cls`` and ``patch`` [K], of the raw logits; ``bottleneck`` and
            ``bottleneck_square`` [bottleneck].
    """

    values: dict[str, Tensor]

    def scaled(self, weight: float) -> TeacherMoments:
        """Every mean times ``weight``."""
        return TeacherMoments({name: weight * value for name, value in self.values.items()})

    def summed(self, ranks: Ranks) -> TeacherMoments:
        """The sum over all processes, in one exchange."""
        if not self.values:
            return self
        together = ranks.summed(torch.cat(list(self.values.values())))
        parts = together.split([len(value) for value in self.values.values()])
        return TeacherMoments(dict(zip(self.values, parts, strict=True)))

    def plus(self, other: TeacherMoments | None) -> TeacherMoments:
        """The sum with ``other``; None counts as zero."""
        if other is None:
            return self
        return TeacherMoments({name: v + other.values[name] for name, v in self.values.items()})
