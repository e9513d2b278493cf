"""Settings that change memory and speed change nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import numpy as np
import pytest
import torch

from volta3d.pretrain.trainer import Trainer

Make = Callable[..., Trainer]
WINDOW = [np.array([0, 1]), np.array([2, 3])]


def trained(trainer: Trainer) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Losses of two windows and what they leave."""
    values = [trainer.window(WINDOW, epoch, trainer.schedule.at(epoch)) for epoch in (0, 1)]
    return values[-1], trainer.distillation.state_dict()


def test_checkpointing_trains_the_same_weights_bit_by_bit(trainer: Make) -> None:
    plain, checkpointed = trained(trainer()), trained(trainer("checkpointing=true"))
    assert plain[0] == checkpointed[0]
    assert all(torch.equal(value, checkpointed[1][name]) for name, value in plain[1].items())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_equals_eager(trainer: Make) -> None:
    eager, compiled = trained(trainer()), trained(trainer("compile=true"))
    for name, value in eager[0].items():
        # fused kernels round at other places: a few 1e-6 of the value
        assert compiled[0][name] == pytest.approx(value, rel=1e-4), name
    assert eager[1].keys() == compiled[1].keys(), "checkpoints fit either way"
    for name, value in eager[1].items():
        # AdamW divides by the gradient's size: where that is tiny a step may differ by up to lr
        assert torch.allclose(value, compiled[1][name], atol=2e-3), name
