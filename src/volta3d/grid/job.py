"""One job of a grid: an arm, a seed, a fraction of the training part, a fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volta3d.artefacts import arm_folder
from volta3d.statistics.splits import FINAL


@dataclass(frozen=True)
class Job:
    """One job.

    Args:
        arm: its name.
        seed: which order of the training part, and which start.
        fraction: of the training part.
        fold: tested; ``FINAL`` fits the model that is kept.
    """

    arm: str
    seed: int
    fraction: float
    fold: int

    @property
    def id(self) -> str:
        """Its name in the ledger."""
        if self.fold == FINAL:
            return f"{self.arm}/final"
        return f"{self.arm}/seed={self.seed}/fraction={self.fraction:g}/fold={self.fold}"

    @property
    def earlier_id(self) -> str:
        """Its name in ledgers of segmentations that knew no fractions; empty where it had none."""
        if self.fold == FINAL or self.fraction != 1:
            return ""
        return f"{self.arm}/seed={self.seed}/fold={self.fold}"

    @property
    def predictions(self) -> str:
        """The folder of its label maps below ``predictions/``."""
        name = self.arm if self.fraction == 1 else f"{self.arm}.fraction{self.fraction:g}"
        return name if self.seed == 0 else f"{name}.seed{self.seed}"

    def folder(self, run: Path) -> Path:
        """Where its weights and metrics lie."""
        arm = arm_folder(run, self.arm)
        part = arm if self.fraction == 1 else arm / f"fraction-{self.fraction:g}"
        return part / f"seed-{self.seed}" / f"fold-{self.fold}"

    def keys(self) -> dict[str, Any]:
        """What its record and its rows are known by."""
        return {"arm": self.arm, "seed": self.seed, "fraction": self.fraction, "fold": self.fold}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Job:
        """The job that a record is of."""
        fraction = float(record.get("fraction", 1.0))
        return cls(str(record["arm"]), int(record["seed"]), fraction, int(record["fold"]))


def jobs_of(
    arms: Sequence[str],
    *,
    seeds: int,
    fractions: Sequence[float],
    folds: int,
    final: bool = False,
) -> list[Job]:
    """The grid, in the order in which it is worked off.

    Args:
        arms: their names.
        seeds: how many repetitions.
        fractions: of the training part.
        folds: how many.
        final: whether each arm is also fitted on everybody, at the end.
    """
    grid = [
        Job(arm, seed, fraction, fold)
        for arm in arms
        for seed in range(seeds)
        for fraction in fractions
        for fold in range(folds)
    ]
    return grid + ([Job(arm, 0, 1.0, FINAL) for arm in arms] if final else [])
