"""Settings that change memory and speed change nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

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


@pytest.fixture
def compiler() -> Iterator[Callable[[], int]]:
    """A compiler that has seen nothing yet; called, it tells how many graphs it has made."""
    torch._dynamo.reset()
    counters.clear()
    yield lambda: counters["stats"]["unique_graphs"]
    torch._dynamo.reset()
    counters.clear()


@pytest.mark.slow
@pytest.mark.timeout(1200)  # eight kernels of C++: 45 s, but minutes where both cores are busy
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_equals_eager(trainer: Make, compiler: Callable[[], int]) -> None:
    """Losses and gradients of full and short batches, and of blocks whose weights have moved."""
    settings = ("model.depth=2", "optim.clip=0", "optim.momentum=[0.5,0.5]", "lr=1e-2")
    eager, compiled = trainer(*settings), trainer(*settings, "compile=true")
    eager.start_statistics()
    state = eager.distillation.state_dict()
    assert state.keys() == compiled.distillation.state_dict().keys(), "checkpoints fit either way"
    compiled.distillation.load_state_dict(state)
    counters.clear()  # of the trial by which ``compiles`` finds out
    reached: dict[Trainer, dict[str, torch.Tensor]] = {}
    for made in (eager, compiled):

        def note(*_: object, made: Trainer = made) -> None:
            named = made.distillation.named_parameters()
            reached[made] = {n: p.grad.clone() for n, p in named if p.grad is not None}

        made.optimizer.register_step_pre_hook(note)

    moving = eager.schedule.at(eager.schedule.steps_per_epoch)  # the last layers do not rest
    still = replace(moving, lr=0.0)
    full, short = np.array([0, 1, 2]), np.array([3, 4])
    graphs, losses = [compiler()], []
    for now, window in (
        (still, [full]),
        (still, [short]),
        (moving, [full, short]),
        (moving, [full, short]),
    ):
        ours = compiled.window(window, 1, now)
        graphs.append(compiler())
        theirs = eager.window(window, 1, now)
        assert compiler() == graphs[-1], "nothing is compiled where nobody asked for it"
        losses.append(theirs)
        # fused kernels round at other places. Both sides are fp32: a few 1e-7 of the value, after
        # a step some more, because AdamW divides by the gradient's size, however tiny that is
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, rel=1e-4), name
        assert reached[eager].keys() == reached[compiled].keys()
        assert len(reached[eager]) == len(eager.parameters)
        for name, value in reached[eager].items():
            # of the largest entry: what is a small difference of large sums has no digits to lose
            torch.testing.assert_close(
                reached[compiled][name], value, rtol=1e-4, atol=1e-4 * float(value.abs().max())
            )
    # what was compiled in this time are the blocks, all else has been there before
    assert graphs[0] == 0
    assert graphs[1] == 3, "teacher, student and the student's locals, whatever the depth"
    assert graphs[2] > graphs[1], "another batch size"
    assert graphs[2] == graphs[3] == graphs[4], "sizes seen before are not compiled again"
    assert counters["frames"]["ok"] == counters["frames"]["total"] == graphs[4]
    assert not counters["graph_break"]
    # the step in between can be seen: graphs that kept their first weights would not pass
    for name in ("reconstruction", "cls", "patch"):
        assert abs(losses[3][name] / losses[2][name] - 1) > 1e-2, name
