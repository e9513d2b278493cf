"""The memory that doctor predicts, or that a run takes: python peak_child.py WHAT COHORT CONFIG.

Not a test: a test starts it twice, for a process's peak is told once. A run is ``pretrain`` from
its first line to the encoder it writes; what the imports below take is not counted.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

import volta3d.pretrain.encoder  # noqa: F401  pretrain imports it at its end
from volta3d.cohort.store import Cohort
from volta3d.config import load_pretrain
from volta3d.doctor.plan import PeakMemory, plan_run
from volta3d.pretrain.loop import pretrain


def main(what: str, cohort: str, config: str) -> None:
    torch.set_num_threads(1)
    settings = load_pretrain(config)
    if what == "plan":
        plan = plan_run(Cohort.open(Path(cohort)), settings)
        print(-1 if plan["memory"] is None else plan["memory"] + plan["data"])
        return
    memory = PeakMemory(torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        pretrain([Path(cohort)], Path(folder) / "run", settings)
    found = memory.peak()
    print(-1 if found is None else found)


if __name__ == "__main__":
    main(*sys.argv[1:])
