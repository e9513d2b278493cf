"""Agreement on people held out: measured, alarmed on noise, silent on a network that sees scans."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric

from volta3d.cohort.store import Cohort
from volta3d.config import PretrainConfig
from volta3d.errors import ConfigError
from volta3d.model.heads import ProjectionHead
from volta3d.pretrain.data import Scans
from volta3d.pretrain.guard import agreement_alarms
from volta3d.pretrain.holdout import held_out
from volta3d.pretrain.log import read_metrics
from volta3d.pretrain.loop import pretrain
from volta3d.pretrain.monitor import Monitor, shares
from volta3d.pretrain.trainer import Trainer

MakeCohort = Callable[..., Cohort]
MakeConfig = Callable[..., PretrainConfig]
MILD = (
    "views.global_scale=[0.9,1]", "views.intensity=0", "views.rotation=0", "views.flip=0",
    "objective.bottleneck=standardised", "objective.teacher_temperature=[0.02,0.02]",
    "objective.start_statistics=32", "monitor.holdout=16",
)  # fmt: skip


def people(ids: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"participant_id": ids, "dataset": "d", "source_sha256": ""})


def test_all_scans_of_a_person_are_held_out_together() -> None:
    table = people([f"p{i % 20:02d}" for i in range(60)])
    places = held_out(table, 0.25, seed=3)
    names = table["participant_id"][places]
    assert names.nunique() == 5 and len(places) == 15
    assert np.array_equal(places, held_out(table, 5, seed=3))
    assert not np.array_equal(places, held_out(table, 5, seed=4))
    assert len(held_out(table, 0.05, seed=3)) == 0  # one person can't be compared with others
    with pytest.raises(ConfigError, match=r"20 people are to be held out.*cohort has 20"):
        held_out(table, 20, seed=3)


@pytest.fixture
def watched(make_cohort: MakeCohort, tiny: MakeConfig, tmp_path: Path) -> Callable[..., Any]:
    """watched(): a trainer on 40 scans, 16 of them held out, and its monitor."""
    cohort = make_cohort(tmp_path / "forty", 40)

    def make(*settings: str) -> tuple[Trainer, Monitor]:
        config = tiny(*MILD, *settings)
        fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
        made = Trainer(Scans.open([cohort.path], config, fabric.device), config, fabric)
        made.start_statistics()
        return made, Monitor(made.scans, config)

    return make


def test_nobody_held_out_is_trained_on(watched: Callable[..., Any]) -> None:
    made, monitor = watched()
    held = set(made.scans.held.tolist())
    assert len(held) == 16 and not held & set(made.order(0).tolist())
    assert sorted({*made.order(0).tolist(), *held}) == list(range(40))
    assert set(monitor.people.tolist()) == held
    assert not held & set(monitor.indices.tolist())


def test_the_alarm_rings_on_noise_and_is_silent_on_a_network_that_sees_scans(
    watched: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, monitor = watched()
    now = made.schedule.at(0)
    healthy = monitor.measure(made.distillation, now)
    assert healthy["agreement"]["scans"] == 16 and healthy["agreement"]["held_out"]
    assert healthy["agreement"]["retrieval"] > 0.5  # by chance .03
    assert healthy["agreement"]["entropy_within"] < healthy["agreement"]["entropy_between"]
    assert agreement_alarms(healthy, 1.0) == []

    generator = torch.Generator().manual_seed(0)

    def noise(self: ProjectionHead, features: torch.Tensor) -> torch.Tensor:
        return torch.randn(*features.shape[:-1], 8, generator=generator)

    monkeypatch.setattr(ProjectionHead, "bottleneck", noise)
    made.start_statistics()
    found = monitor.measure(made.distillation, now)
    assert found["information"] > 0.5  # which the alarm on information takes for success
    [alarm] = agreement_alarms(found, 1.0)
    assert alarm.name == "agreement" and alarm.level == "warn"
    assert agreement_alarms(found, 0.0) == []  # the CLS loss isn't trained yet


def test_what_nobody_trains_is_not_measured(watched: Callable[..., Any]) -> None:
    made, monitor = watched("objective.cls=0")
    record = monitor.measure(made.distillation, made.schedule.at(0))
    assert record["information"] is None and record["agreement"]["entropy_within"] is None
    assert record["agreement"]["retrieval_mean"] > 0.5
    assert agreement_alarms(record, 0.0) == []


def test_gradient_shares_sum_to_one() -> None:
    assert shares({"a": 3.0, "b": 1.0}) == {"a": 0.75, "b": 0.25}
    assert shares({"a": 0.0}) == {"a": 0.0}


def test_a_run_says_who_was_held_out(
    make_cohort: MakeCohort, tiny: MakeConfig, tmp_path: Path
) -> None:
    cohort = make_cohort(tmp_path / "twelve", 12)
    said: list[str] = []
    config = tiny("epochs=1", "monitor.holdout=4")
    result = pretrain([cohort.path], tmp_path / "run", config, tell=said.append)
    content = json.loads((tmp_path / "run" / "cohort.json").read_text())
    assert len(content["held_out"]) == 4 and len(content["scan_ids"]) == 8
    assert "4 of them kept out of training" in said[0]
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    epochs = [r for r in records if r["kind"] == "epoch"]
    assert epochs[-1]["agreement"]["scans"] == 4
    assert sum(epochs[-1]["gradient_shares"].values()) == pytest.approx(1)
    card = (result.encoder / "MODEL_CARD.md").read_text()
    assert "| scans | 8 |" in card and "(4 people held out)" in card
