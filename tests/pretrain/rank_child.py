"""One process of a data-parallel run: python rank_child.py WHAT COHORT OUT CONFIG.yaml.

Not a test: tests start several, as torchrun would. WHAT is ``window`` (gradients of one uneven
window), ``train``, or a fault of rank 1 in step 2: ``term``, ``die``, ``nan``; ``slow`` is ``term``
while rank 0 takes its time to save.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from volta3d.config import PretrainConfig, load_pretrain
from volta3d.errors import VoltaError
from volta3d.pretrain import checkpoint
from volta3d.pretrain.checkpoint import available
from volta3d.pretrain.data import Scans
from volta3d.pretrain.fabric import build_fabric
from volta3d.pretrain.loop import pretrain
from volta3d.pretrain.trainer import Trainer

WINDOW = [np.array([0, 1, 2]), np.array([3])]  # rank 1 has one scan, then none


def window(cohort: Path, out: Path, config: PretrainConfig) -> None:
    """Save what reaches the optimiser, the centres, the losses, and when gradients were sent."""
    fabric = build_fabric(config)
    fabric.launch()
    trainer = Trainer(Scans.open([cohort], config, fabric.device), config, fabric)
    wrapped = trainer.module._forward_module
    sent: list[bool] = []
    trainer.distillation.register_forward_pre_hook(
        lambda *_: sent.append(bool(getattr(wrapped, "require_backward_grad_sync", True)))
    )
    found: dict[str, torch.Tensor] = {}

    def note(*_: object) -> None:
        for name, parameter in trainer.distillation.named_parameters():
            if parameter.grad is not None:
                found[f"gradient.{name}"] = parameter.grad.clone()

    trainer.optimizer.register_step_pre_hook(note)
    values = trainer.window(WINDOW, 0, trainer.schedule.at(1))
    found |= {f"value.{name}": torch.tensor(value) for name, value in values.items()}
    state = trainer.distillation.state_dict()
    found |= {f"state.{name}": value.clone() for name, value in state.items()}
    found["sent"] = torch.tensor(sent)
    save_file(found, out.with_name(f"{out.name}-{fabric.global_rank}.safetensors"))


def fault(what: str) -> None:
    """Make rank 1 fail in its second step."""
    whole = Trainer.window
    steps = iter(range(1, 1000))

    def failing(self: Trainer, *given: object) -> dict[str, float]:
        if self.ranks.rank == 1 and next(steps) == 2:
            if what == "die":
                os._exit(1)
            if what in ("term", "slow"):
                os.kill(os.getpid(), signal.SIGTERM)
            if what == "nan":
                with torch.no_grad():
                    self.distillation.pair.student.summariser.token.fill_(float("nan"))
        return whole(self, *given)  # type: ignore[arg-type]

    Trainer.window = failing  # type: ignore[assignment,method-assign]
    if what == "slow":
        save = checkpoint.save

        def slowly(*given: object, **named: object) -> object:
            time.sleep(3)
            return save(*given, **named)  # type: ignore[arg-type]

        checkpoint.save = slowly  # type: ignore[assignment]


def main(what: str, cohort: str, out: str, config: str) -> int:
    torch.set_num_threads(1)
    try:
        if what == "window":
            window(Path(cohort), Path(out), load_pretrain(config))
            return 0
        fault(what)
        resume = (Path(out) / "config.yaml").exists()
        pretrain([Path(cohort)], Path(out), load_pretrain(config), resume=resume)
    except VoltaError as error:
        print(error.paragraph(), file=sys.stderr)
        there = [p.name for p in available(Path(out) / "checkpoints")]
        print(f"when it left there were {there}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
