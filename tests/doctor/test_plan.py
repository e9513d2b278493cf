"""The plan: memory is asked for before it is taken, and the hours are the sum of their parts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort, write_cohort
from volta3d.config import load_pretrain
from volta3d.doctor import plan as planning
from volta3d.doctor import probe as probing
from volta3d.doctor.plan import PeakMemory, checkpoints_of, plan_run
from volta3d.doctor.text import render
from volta3d.pretrain.data import Scans
from volta3d.pretrain.step import SelfDistillation

SMOKE = load_pretrain("smoke", ["precision=fp32", "batch_size=2", "model.depth=1"])
SCANS = 6


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    rng = np.random.default_rng(0)
    volumes = rng.random((SCANS, 32, 32, 32), dtype=np.float32)
    people = pd.DataFrame({"scan_id": [f"s{i}" for i in range(SCANS)]})
    folder = tmp_path_factory.mktemp("plan") / "cohort"
    return write_cohort(folder, Contract(size=32, synthetic=True), volumes, people)


def test_free_memory_is_what_there_was_before_the_probe(
    monkeypatch: pytest.MonkeyPatch, cohort: Cohort
) -> None:
    """40 GB at the peak fit a card of 80 GB, of which the probe still holds 50."""
    taken = []
    start = SelfDistillation.__init__

    def built(self: SelfDistillation, *given: Any) -> None:
        taken.append(True)
        start(self, *given)

    monkeypatch.setattr(SelfDistillation, "__init__", built)
    monkeypatch.setattr(planning, "_free", lambda _: int(30e9 if taken else 80e9))
    monkeypatch.setattr(PeakMemory, "peak", lambda _: int(40e9))
    plan = plan_run(cohort, SMOKE)
    assert plan["memory_free"] == 80e9 and "Does not fit" not in plan["advice"]


def test_the_scans_held_in_memory_count_in_the_advice(
    monkeypatch: pytest.MonkeyPatch, cohort: Cohort
) -> None:
    data = SCANS * 2 * 32**3
    monkeypatch.setattr(planning, "_free", lambda _: 4 * data)
    monkeypatch.setattr(PeakMemory, "peak", lambda _: 3 * data)
    held = plan_run(cohort, SMOKE)
    assert held["resident"] and "Does not fit" in held["advice"]
    assert "data=stream" in held["advice"]
    streamed = plan_run(cohort, SMOKE.model_copy(update={"data": "stream"}))
    assert not streamed["resident"] and "Does not fit" not in streamed["advice"]


@pytest.mark.parametrize("share", [0.39, 0.41])
def test_the_plan_holds_the_scans_where_the_run_does(
    monkeypatch: pytest.MonkeyPatch, cohort: Cohort, share: float
) -> None:
    data = SCANS * 2 * 32**3
    free = SimpleNamespace(available=int(data / share))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    run = Scans.open([cohort.path], SMOKE, torch.device("cpu"))
    assert plan_run(cohort, SMOKE)["resident"] is run.resident is (share < 0.4)


def test_what_a_process_keeps_of_a_device_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10, 80))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 5)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 2)
    assert planning._free(torch.device("cuda")) == 13


def test_the_hours_are_the_sum_of_their_parts(cohort: Cohort) -> None:
    plan = plan_run(cohort, SMOKE)
    parts = plan["parts"]
    assert set(parts) == {"training", "start", "monitors", "checkpoints"}
    assert all(hours > 0 for hours in parts.values())
    assert plan["hours"] == pytest.approx(sum(parts.values()))
    training = plan["steps"] * plan["seconds_per_step"] / 3600
    assert parts["training"] == pytest.approx(training)


def test_looks_and_checkpoints_are_multiplied_by_how_often_a_run_does_them(
    monkeypatch: pytest.MonkeyPatch, cohort: Cohort
) -> None:
    monkeypatch.setattr(probing.Probe, "look", lambda *_: 3600.0)
    monkeypatch.setattr(probing.Probe, "save", lambda *_: 3600.0)
    monkeypatch.setattr(probing.Probe, "start", lambda _: 7200.0)
    settings = ["epochs=7", "monitor.every_epochs=3", "checkpoint_minutes=1e9"]
    config = load_pretrain("smoke", ["precision=fp32", *settings])
    parts = plan_run(cohort, config)["parts"]
    assert parts["start"] == 2
    assert parts["monitors"] == 4  # before training, after 3 and 6, and at the end
    assert parts["checkpoints"] == 1


def test_checkpoints_are_written_by_the_clock_or_by_steps() -> None:
    config = load_pretrain("smoke", ["epochs=10", "checkpoint_minutes=10"])
    assert checkpoints_of(config, per_epoch=100, seconds=60) == 1
    assert checkpoints_of(config, per_epoch=100, seconds=3700) == 7
    assert checkpoints_of(config, per_epoch=1, seconds=1e6) == 10
    by_steps = load_pretrain("smoke", ["epochs=10", "checkpoint_steps=40"])
    # epochs end at 100, 200 ..., of 40, 80 ... 1000 five are such ends
    assert checkpoints_of(by_steps, per_epoch=100, seconds=60) == 10 + 20


def test_a_streamed_cohort_is_read_and_a_held_one_is_not(
    monkeypatch: pytest.MonkeyPatch, cohort: Cohort
) -> None:
    read: list[int] = []
    load = Cohort.load

    def noted(self: Cohort, indices: Any = None, downsample: int = 1) -> torch.Tensor:
        read.extend(indices)
        return load(self, indices, downsample)

    monkeypatch.setattr(Cohort, "load", noted)
    held = plan_run(cohort, SMOKE)
    assert held["seconds_reading"] == 0 and not read
    streamed = plan_run(cohort, SMOKE.model_copy(update={"data": "stream"}))
    assert streamed["seconds_reading"] > 0 and set(read) == set(range(SCANS))
    unknown = plan_run(None, SMOKE.model_copy(update={"data": "stream"}))
    assert unknown["seconds_reading"] is None


def test_the_time_says_what_it_includes_and_what_it_leaves_out(
    monkeypatch: pytest.MonkeyPatch, cohort: Cohort
) -> None:
    def said(plan: dict[str, Any]) -> tuple[str, str]:
        machine = {
            "processor": "cpu", "threads": 1, "memory": 1, "memory_available": 1, "disk_free": 1,
            "device": "cpu", "device_memory": None, "precision": "fp32", "flops_per_second": 1,
            "volta3d": "", "torch": "", "python": "",
        }  # fmt: skip
        lines = render({"machine": machine, "plan": plan, "cohort": {"problem": ""}, "views": None})
        found = [line.strip() for line in lines.splitlines()]
        return tuple(  # type: ignore[return-value]
            next(line for line in found if line.startswith(start))
            for start in ("included", "left out")
        )

    included, left = said(plan_run(cohort, SMOKE))
    for part in ("steps", "first look", "monitors", "checkpoints"):
        assert part in included
    assert "loading" in left and "checkpoints" not in left
    monkeypatch.setattr(probing.Probe, "save", lambda *_: None)
    streamed = SMOKE.model_copy(update={"data": "stream"})
    included, left = said(plan_run(None, streamed))
    assert "checkpoints" not in included and "checkpoints" in left and "reading" in left


def test_a_full_disk_for_temporary_files_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, cohort: Cohort
) -> None:
    full = SimpleNamespace(total=1, used=1, free=1)
    monkeypatch.setattr(probing.shutil, "disk_usage", lambda _: full)
    plan = plan_run(cohort, SMOKE)
    assert plan["parts"]["checkpoints"] is None
    assert plan["hours"] == pytest.approx(sum(v for v in plan["parts"].values() if v))


def test_the_probe_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, cohort: Cohort, tmp_path: Path
) -> None:
    monkeypatch.setattr(probing.tempfile, "tempdir", str(tmp_path))
    plan_run(cohort, SMOKE)
    assert not list(tmp_path.iterdir())
