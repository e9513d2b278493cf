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
from volta3d.pretrain.guard import StepAlarms, alarms, knn_alarms
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
    assert names(monitors(uniform, features)) == {"information"}


def test_F16_single_prototype_collapse_rings() -> None:
    _, features = healthy()
    one = torch.zeros(SCANS, PROTOTYPES)
    one[:, 5] = 1
    assert names(monitors(one, features)) == {"information"}


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
    record = {"information": 0.0, "effective_rank": math.nan, "mean_cosine": None}
    assert alarms(record, scans=63) == []
    assert {a.name for a in alarms(record, scans=64)} == {"information"}


def test_few_directions_warn_and_fewer_than_two_stop() -> None:
    assert {(a.name, a.level) for a in alarms({"effective_rank": 9.9}, scans=SCANS)} == {
        ("effective_rank", "warn")
    }
    assert {(a.name, a.level) for a in alarms({"effective_rank": 1.9}, scans=SCANS)} == {
        ("effective_rank", "stop")
    }
    assert alarms({"effective_rank": 10.1}, scans=SCANS) == []


@pytest.mark.parametrize(
    ("cls", "patch", "rings"),
    [(0.019, 1.0, True), (0.021, 1.0, False), (0.0, 1.0, False), (0.01, 0.0, False)],
)
def test_a_cls_loss_that_moves_nothing_rings_unless_it_is_off(
    cls: float, patch: float, rings: bool
) -> None:
    record = {"gradient_norms": {"cls": cls, "patch": patch, "reconstruction": 1.0}}
    assert (names(record) == {"cls_to_patch_gradient"}) is rings


def test_neighbours_that_know_less_than_before_training_ring() -> None:
    before = {"knn": {"token": {"r": 0.5}, "token_within_data_sets": {"r": 0.4}}}
    after = {"knn": {"token": {"r": 0.45}, "token_within_data_sets": {"r": 0.1}}}
    found = knn_alarms(after, before, scans=SCANS)
    assert [(a.name, a.level) for a in found] == [("knn_token_within_data_sets", "warn")]
    assert knn_alarms(after, before, scans=63) == []
    assert knn_alarms({"knn": {"token": {"r": None}}}, before, scans=SCANS) == []
    assert knn_alarms(before, {}, scans=SCANS) == []


def steps(
    count: int, watch: StepAlarms | None = None, **values: float
) -> tuple[list[str], StepAlarms]:
    watch = watch or StepAlarms({}, prototypes=PROTOTYPES, scans=SCANS)
    record = {"teacher_entropy": 0.5, "cls": 1.0, "cls_weight": 1.0, **values}
    return [a.name for _ in range(count) for a in watch.see(record)], watch


def test_F16_entropy_rings_after_50_steps_in_a_row_and_once() -> None:
    assert steps(49, teacher_entropy=0.99)[0] == []
    assert steps(120, teacher_entropy=0.99)[0] == ["teacher_entropy"]
    assert steps(50, teacher_entropy=0.05)[0] == ["teacher_certainty"]
    _, watch = steps(49, teacher_entropy=0.99)
    steps(1, watch)  # one good step in between
    assert steps(49, watch, teacher_entropy=0.99)[0] == []


def test_F16_a_cls_loss_at_ln_k_rings_after_200_steps() -> None:
    flat = math.log(PROTOTYPES) + 0.019
    assert steps(199, cls=flat)[0] == []
    assert steps(200, cls=flat)[0] == ["cls_flat"]
    assert steps(200, cls=flat + 0.002)[0] == []


def test_a_cls_loss_that_is_off_says_nothing_about_it() -> None:
    assert steps(300, cls=math.log(PROTOTYPES), teacher_entropy=1.0, cls_weight=0.0)[0] == []


def test_R9_steps_are_counted_on_after_a_resume() -> None:
    _, first = steps(30, teacher_entropy=0.99)
    resumed = StepAlarms(dict(first.hits), prototypes=PROTOTYPES, scans=SCANS)
    assert steps(20, resumed, teacher_entropy=0.99)[0] == ["teacher_entropy"]


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
