"""Views made ahead: the same ones in the same order, and errors where they belong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from volta3d.pretrain.ahead import ahead
from volta3d.pretrain.trainer import Trainer


@pytest.mark.parametrize("workers", [0, 1, 2, 20])
def test_R5_results_come_in_order(workers: int) -> None:
    def make(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number * number

    assert list(ahead(make, range(10), workers)) == [n * n for n in range(10)]


def test_no_more_than_asked_for_are_made_ahead() -> None:
    made: list[int] = []
    results = ahead(made.append, range(50), 2)
    next(results)
    time.sleep(0.05)
    assert len(made) <= 3
    results.close()
    assert len(made) <= 3


def test_an_error_comes_up_in_its_place_and_ends_the_threads() -> None:
    def make(number: int) -> int:
        if number == 2:
            raise ValueError("broken")
        return number

    results = ahead(make, range(9), 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="broken"):
        next(results)
    assert not [t for t in threading.enumerate() if t.name.startswith("views")]


def test_R5_R6_another_number_of_workers_trains_the_same_weights_bit_by_bit(
    trainer: Callable[..., Trainer],
) -> None:
    states = []
    for first, second in ((0, 0), (1, 2), (2, 0)):  # the second epoch with other threads
        made = trainer("batch_size=2", "accumulate=1", f"workers={first}")
        losses = [record["loss"] for record in made.epoch(0, 0)]
        made.config = made.config.model_copy(update={"workers": second})
        losses += [record["loss"] for record in made.epoch(1, 0)]
        states.append((losses, made.distillation.state_dict()))
    for losses, state in states[1:]:
        assert losses == states[0][0]
        assert all(torch.equal(state[name], states[0][1][name]) for name in state)


def test_batched_views_pass_as_they_do_one_at_a_time(trainer: Callable[..., Trainer]) -> None:
    """The step's batch of corrupted and clean globals, against each view alone."""
    made = trainer("objective.cls_student=clean")
    views, student = made.views(np.array([0, 1, 2]), 0), made.distillation.pair.student
    both = student.encoder.patches.cut(views.corrupted, views.global_views)
    batched = student.encoder.encode(both, made.distillation.grid(views.global_views))
    alone = [student.encoder(v[None]) for v in (*views.corrupted, *views.global_views)]
    # fp32 matrix products round differently with another number of rows
    assert torch.allclose(batched, torch.cat(alone), atol=1e-5)


def test_R5_a_thread_that_makes_views_leaves_the_shared_cache_of_autocast_alone(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Emptied in the middle of a step in bf16 it changes the order in which gradients are added."""
    made, emptied = trainer(), []
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: emptied.append(1))
    thread = threading.Thread(target=lambda: made.views(np.array([0, 1]), 0))
    thread.start()
    thread.join()
    assert not emptied
    with torch.autocast("cpu", torch.bfloat16):
        inside = made.views(np.array([0, 1]), 0)
    assert torch.equal(inside.global_views, made.views(np.array([0, 1]), 0).global_views)
