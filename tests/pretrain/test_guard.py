"""Alarms: each rings on the collapse it is for, and all are silent on healthy features."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from volta3d.cohort.store import Cohort
from volta3d.config import PretrainConfig
from volta3d.errors import Collapse
from volta3d.objective.diagnostics import effective_rank, information, mean_offdiagonal_cosine
from volta3d.pretrain.guard import alarms
from volta3d.pretrain.loop import pretrain

SCANS, PROTOTYPES, WIDTH = 96, 32, 24


def monitors(probabilities: torch.Tensor, features: torch.Tensor) -> dict[str, Any]:
    return {
        **information(probabilities),
        "effective_rank": effective_rank(features),
        "mean_cosine": mean_offdiagonal_cosine(features),
        "bottleneck_cosine": mean_offdiagonal_cosine(features - features.mean(0)),
    }


def healthy() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(SCANS, PROTOTYPES, generator=generator)
    return (3 * logits).softmax(1), torch.randn(SCANS, WIDTH, generator=generator)


def names(record: dict[str, Any], **more: Any) -> set[str]:
    return {alarm.name for alarm in alarms(record, scans=SCANS, **more)}


def test_silence_on_healthy_features() -> None:
    assert names(monitors(*healthy())) == set()


def test_F16_uniform_collapse_rings() -> None:
    _, features = healthy()
    uniform = torch.full((SCANS, PROTOTYPES), 1 / PROTOTYPES)
    assert names(monitors(uniform, features)) == {"information", "teacher_entropy"}


def test_F16_single_prototype_collapse_rings() -> None:
    _, features = healthy()
    one = torch.zeros(SCANS, PROTOTYPES)
    one[:, 5] = 1
    assert names(monitors(one, features)) == {"information", "teacher_entropy"}


def test_features_that_all_point_one_way_ring_unless_the_bottleneck_is_standardised() -> None:
    probabilities, features = healthy()
    record = monitors(probabilities, features + 100)
    assert names(record) == {"mean_cosine"}
    assert names(record, standardised=True) == set()


def test_features_on_a_line_ring() -> None:
    probabilities, features = healthy()
    line = features[:, :1] @ features[:1]
    assert "effective_rank" in names(monitors(probabilities, line))


def test_fewer_than_64_scans_and_undefined_values_say_nothing() -> None:
    record = {"information": 0.0, "effective_rank": math.nan, "teacher_entropy": None}
    assert alarms(record, scans=63) == []
    assert {a.name for a in alarms(record, scans=64)} == {"information"}


@pytest.fixture(scope="module")
def many(make_cohort: Callable[..., Cohort], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("many") / "cohort", 64).path


COLLAPSED = (
    # a teacher this blunt gives every scan the uniform distribution from the first step
    "objective.teacher_temperature=[1e6, 1e6]",
    "monitor.scans=64",
    "epochs=1",
    "batch_size=8",
    "checkpoint_steps=0",
)


def test_F16_a_run_in_collapse_says_so(
    many: Path, tiny: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    result = pretrain([many], tmp_path / "run", tiny(*COLLAPSED))
    assert "information" in result.alarms
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    rung = [r for r in records if r["kind"] == "alarm" and r["name"] == "information"]
    assert rung and rung[0]["value"] < rung[0]["limit"] == 0.05 and rung[0]["epoch"] == 1


def test_F16_a_run_told_to_stop_stops(
    many: Path, tiny: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    with pytest.raises(Collapse, match="same of every scan"):
        pretrain([many], tmp_path / "run", tiny(*COLLAPSED, "monitor.alarm=stop"))
    assert not (tmp_path / "run" / "encoder").exists()
