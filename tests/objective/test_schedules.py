"""Schedules count optimiser steps and end where they should."""

from __future__ import annotations

import math

import pytest

from volta3d.config import load_pretrain
from volta3d.objective.curves import cosine, linear
from volta3d.objective.schedules import Schedule


def test_cosine_and_linear_meet_their_ends() -> None:
    assert cosine(1.0, 0.0, 0.0) == 1.0
    assert math.isclose(cosine(1.0, 0.0, 1.0), 0.0, abs_tol=1e-12)
    assert math.isclose(cosine(1.0, 0.0, 0.25), 0.5 * (1 + math.cos(math.pi / 4)))
    assert linear(1.0, 3.0, 0.5) == 2.0
    assert linear(1.0, 3.0, 7.0) == 3.0


def test_X13_schedules_count_optimiser_steps() -> None:
    config = load_pretrain("paper")
    schedule = Schedule(config, steps_per_epoch=10)
    assert schedule.steps == 1000
    first, peak, last = schedule.at(0), schedule.at(99), schedule.at(999)
    assert math.isclose(first.lr, 1e-4 / 100)
    assert math.isclose(peak.lr, 1e-4)
    assert math.isclose(last.lr, 1e-6)
    assert first.momentum == 0.996 and last.momentum == 1.0
    assert first.weight_decay == pytest.approx(0.04) and last.weight_decay == pytest.approx(0.4)
    assert first.teacher_temperature == 0.04
    assert schedule.at(150).teacher_temperature == pytest.approx(0.055)
    assert schedule.at(300).teacher_temperature == pytest.approx(0.07)
    assert schedule.at(9).freeze_prototypes and not schedule.at(10).freeze_prototypes


def test_cls_weight_is_off_then_ramps() -> None:
    config = load_pretrain("paper", ["objective.cls_start_epoch=2", "objective.cls_ramp_epochs=4"])
    schedule = Schedule(config, steps_per_epoch=10)
    weights = [schedule.at(step).weights["cls"] for step in (0, 19, 20, 40, 60, 500)]
    assert weights == pytest.approx([0, 0, 0, 0.5, 1, 1])


def test_short_runs_warm_up_for_half_at_most() -> None:
    config = load_pretrain("paper", ["epochs=4"])
    schedule = Schedule(config, steps_per_epoch=5)
    rates = [schedule.at(step).lr for step in range(schedule.steps)]
    assert max(rates) == pytest.approx(1e-4)
    assert rates.index(max(rates)) == 9
