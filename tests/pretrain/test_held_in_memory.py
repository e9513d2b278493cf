"""How much of the data is held at once, by whom, and who is told."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from volta3d.config import PretrainConfig
from volta3d.errors import OutOfMemory
from volta3d.pretrain.data import Scans
from volta3d.pretrain.loop import pretrain
from volta3d.pretrain.monitor import AT_ONCE, Monitor
from volta3d.pretrain.trainer import Fetched, Made, Trainer

Tiny = Callable[..., PretrainConfig]
Make = Callable[..., Trainer]


class Many(Scans):
    """As many scans as asked for, all of them the first few again; notes how many at once."""

    sizes: list[int]

    def batch(self, indices: object) -> Tensor:
        wanted = np.asarray(indices) % 4
        self.sizes.append(len(wanted))
        return super().batch(wanted)


def test_a_look_holds_a_few_scans_however_large_the_micro_batch(trainer: Make) -> None:
    """A micro-batch of 64 processes is no batch for the one that looks."""
    made = trainer("batch_size=64", "monitor.scans=64")
    made.scans.__class__, made.scans.sizes = Many, []  # type: ignore[attr-defined]
    monitor = Monitor(made.scans, made.config)
    monitor.indices = np.arange(64) % len(made.scans)
    now = made.schedule.at(0)
    with torch.no_grad():
        batches = [len(part) for part, _ in monitor._batches(monitor.indices)]
    assert sum(batches) == 64 and max(batches) == AT_ONCE
    monitor.gradient_norms(made.distillation, now)
    assert max(made.scans.sizes) == AT_ONCE  # type: ignore[attr-defined]


def test_the_start_holds_one_batch_of_views_at_a_time(trainer: Make) -> None:
    made = trainer()
    alive: list[weakref.ref[object]] = []
    most = 0

    def make(part: np.ndarray) -> object:
        nonlocal most
        gc.collect()
        most = max(most, sum(ref() is not None for ref in alive))
        views = made.views(part, -1)
        alive.append(weakref.ref(views))
        return views

    parts = [np.array([i % 4]) for i in range(6)]
    made.distillation.start_statistics(Made(make, parts))  # type: ignore[arg-type]
    assert len(alive) == 12, "the scans pass twice"
    assert most <= 1  # the one that is being replaced
    streamed = {k: v.clone() for k, v in made.distillation.state_dict().items()}
    again = trainer()
    again.distillation.start_statistics([again.views(part, -1) for part in parts])
    for name, value in again.distillation.state_dict().items():
        assert torch.equal(value, streamed[name]), name


def test_how_scans_are_held_is_told_before_the_first_step_and_written_down(
    cohort: Path, tiny: Tiny, tmp_path: Path
) -> None:
    said: list[str] = []
    for data, words in (("resident", "held on cpu"), ("stream", "read from the store as needed")):
        run = tmp_path / data
        with pytest.raises(StopIteration):
            pretrain([cohort], run, tiny(f"data={data}"), tell=said.append, notify=_stop)
        (held,) = [line for line in said if words in line]
        assert json.loads((run / "environment.json").read_text())["data"] == held


def _stop(*_: object) -> None:
    raise StopIteration


def test_F15_scans_that_do_not_fit_are_memory_that_ran_out(
    cohort: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Scans) -> Iterator[None]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Scans, "_load", full)
    with pytest.raises(OutOfMemory):
        pretrain([cohort], tmp_path / "run", tiny("data=resident"))
    assert not (tmp_path / "run").exists()


def test_processes_of_one_machine_share_its_memory(
    cohort: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = Scans.open([cohort], tiny("data=stream"), torch.device("cpu"))
    room = scans.bytes / 0.4 * 1.5  # for one and a half
    monkeypatch.setattr(
        "volta3d.pretrain.data.psutil.virtual_memory", lambda: type("M", (), {"available": room})
    )
    assert scans._fits()
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    assert not scans._fits()


def test_numbers_are_fetched_as_they_are() -> None:
    assert Fetched(torch.tensor([0.5, 2.0])).numbers() == [0.5, 2.0]
