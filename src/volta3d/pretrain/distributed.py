"""Several processes, one run: each takes its part of every micro-batch (data parallel).

A micro-batch is ``batch_size`` scans over all processes, so the science does not depend on how
many there are: a run saved on N processes goes on with M. Processes are started from outside, by
``torchrun`` or ``srun``; nothing here starts one.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from volta3d.errors import UsageError, VoltaError

_CONNECTION = re.compile(
    "gloo|NCCL|nccl|[Cc]onnection|remote (worker|process)|[Pp]rocess ?[Gg]roup"
)


@dataclass(frozen=True)
class Launched:
    """How this process was started: processes on this machine, and machines."""

    here: int = 1
    machines: int = 1


def launched(environment: dict[str, str] | None = None) -> Launched:
    """What ``torchrun`` or ``srun`` says; one process where neither started us.

    Raises:
        UsageError: the numbers do not fit together.
    """
    said = dict(os.environ) if environment is None else environment
    if "TORCHELASTIC_RUN_ID" in said or {"RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"} <= said.keys():
        world, here = int(said["WORLD_SIZE"]), int(said["LOCAL_WORLD_SIZE"])
    elif "SLURM_PROCID" in said and said.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        # of the step: a script run without srun inside an allocation is one process
        world = int(said["SLURM_STEP_NUM_TASKS"])
        machines = int(said.get("SLURM_STEP_NUM_NODES", "1"))
        here = world // machines
        if int(said.get("SLURM_NTASKS", "1")) > 1 and "SLURM_NTASKS_PER_NODE" not in said:
            raise UsageError(
                f"srun was given --ntasks={said['SLURM_NTASKS']} and no --ntasks-per-node",
                fix=f"Use --nodes={machines} --ntasks-per-node={-(-world // machines)} instead",
            )
    else:
        return Launched()
    if here < 1 or world % here:
        raise UsageError(
            f"{world} processes do not divide into {here} on each machine",
            fix="Start the same number of processes on every machine",
        )
    return Launched(here, world // here)


@dataclass(frozen=True)
class Ranks:
    """This process among all of a run.

    Args:
        rank: which one, from 0; number 0 writes.
        world: how many.
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def part(self, scans: np.ndarray) -> tuple[np.ndarray, int]:
        """This process's scans of a micro-batch, and how many of them count.

        Every process takes part in every step. One for which no scan is left repeats the first
        with weight 0.
        """
        own = scans[self.rank :: self.world]
        return (own, len(own)) if len(own) else (scans[:1], 0)

    def summed(self, values: Tensor) -> Tensor:
        """The sum over all processes; NaN in one is NaN in all."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def masked(self, masks: Tensor, counted: int, scans: int) -> Tensor | None:
        """What this process divides its reconstruction by; None where it is the only one.

        The sum over processes of what they weight with their share ``counted`` / ``scans`` is then
        the error over all masked voxels of the micro-batch [S METHOD section 3].

        Args:
            masks: bool, of this process's views.
            counted: how many of its scans count.
            scans: of the whole micro-batch.
        """
        if self.world == 1:
            return None
        own = masks.count_nonzero().double() * float(counted > 0)
        return (self.summed(own) * (counted / scans)).float()

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether one process at least says yes."""
        if self.world == 1:
            return flag
        return bool(self.summed(torch.tensor(float(flag), device=device)) > 0)

    def wait(self) -> None:
        """Go on when all processes are here."""
        if self.world > 1:
            dist.barrier()


@contextlib.contextmanager
def lost() -> Iterator[None]:
    """A connection lost to another process as what it means."""
    try:
        yield
    except RuntimeError as error:
        if not _CONNECTION.search(str(error)):
            raise
        raise VoltaError(
            "Another process of this run ended or does not answer",
            fix="Look for its message above, then start all of them again with --resume",
        ) from error
