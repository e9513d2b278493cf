"""The memory that doctor predicts, or that a run takes: python peak_child.py WHAT COHORT CONFIG.

Not a test: a test starts it twice, for a process's peak is told once.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from volta3d.cohort.store import Cohort
from volta3d.config import load_pretrain
from volta3d.doctor.plan import PeakMemory, plan_run
from volta3d.pretrain.data import Scans
from volta3d.pretrain.fabric import build_fabric
from volta3d.pretrain.trainer import Trainer


def main(what: str, cohort: str, config: str) -> None:
    torch.set_num_threads(1)
    settings = load_pretrain(config)
    if what == "plan":
        plan = plan_run(Cohort.open(Path(cohort)), settings)
        print(-1 if plan["memory"] is None else plan["memory"] + plan["data"])
        return
    fabric = build_fabric(settings)
    opened = [Cohort.open(Path(cohort))]
    memory = PeakMemory(torch.device("cpu"))
    trainer = Trainer(Scans(opened), settings, fabric)
    list(trainer.epoch(0, 0))
    found = memory.peak()
    print(-1 if found is None else found)


if __name__ == "__main__":
    main(*sys.argv[1:])
