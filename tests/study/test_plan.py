"""A study as jobs: order, needs, and what makes a job another job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from volta3d.config import StudyConfig, build, load_study, studies
from volta3d.errors import ConfigError
from volta3d.study.plan import plan

SMALL: dict[str, Any] = {
    "cohorts": {
        "half": {"part_of": "all", "share": [0.0, 0.5]},
        "rest": {"part_of": "all", "share": [0.5, 1.0]},
        "all": {"phantom": {"subjects": 8}},
    },
    "encoders": {
        "volta": {"cohorts": ["half"], "preset": "smoke", "set": {"epochs": 2}},
        "less": {"like": "volta", "set": {"objective.cls": 0}},
        "given": {"encoder": "elsewhere/encoder"},
    },
    "tasks": {
        "sex": {
            "kind": "classification",
            "cohort": "rest",
            "target": "sex",
            "arms": {"a": "volta", "b": "linear:less", "c": "scratch", "d": "volta"},
        }
    },
}


def changed(**parts: Any) -> StudyConfig:
    return build(StudyConfig, {**SMALL, **parts})


def hashes(config: StudyConfig) -> dict[str, str]:
    return {job.id: job.hash for job in plan(config)}


@pytest.mark.parametrize("name", studies())
def test_shipped_studies_have_a_plan_in_order(name: str) -> None:
    seen: set[str] = set()
    for job in plan(load_study(name)):
        assert set(job.needs) <= seen
        assert job.id not in seen
        seen.add(job.id)
    assert load_study(f"{name}.yaml") == load_study(name)


def test_wholes_come_before_their_parts_and_tasks_after_their_encoders() -> None:
    jobs = {job.id: job for job in plan(build(StudyConfig, SMALL))}
    order = list(jobs)
    assert order.index("cohort/all") < order.index("cohort/half")
    assert jobs["encoder/less"].needs == ("cohort/half",)
    assert jobs["encoder/given"].needs == ()
    assert jobs["task/sex"].needs == ("cohort/rest", "encoder/volta", "encoder/less")
    assert "features/given" not in jobs  # nothing says which cohort it is for


def test_what_an_encoder_is_like_comes_first_and_its_own_settings_last() -> None:
    config = build(StudyConfig, SMALL)
    assert config.settings_of("less") == {"epochs": 2, "objective.cls": 0}
    assert config.preset_of("less") == "smoke"
    assert config.cohorts_of("less") == ("half",)


def test_another_setting_is_another_job_and_so_is_all_that_needs_it() -> None:
    before = hashes(build(StudyConfig, SMALL))
    encoders = {**SMALL["encoders"], "less": {"like": "volta", "set": {"objective.cls": 1}}}
    after = hashes(changed(encoders=encoders))
    differ = {name for name in before if before[name] != after[name]}
    assert differ == {"encoder/less", "features/less", "task/sex"}
    assert set(hashes(changed(seed=1)).values()).isdisjoint(before.values())


def test_the_number_of_workers_changes_no_job() -> None:
    cohorts = {**SMALL["cohorts"], "all": {"phantom": {"subjects": 8}, "workers": 4}}
    assert hashes(changed(cohorts=cohorts)) == hashes(build(StudyConfig, SMALL))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"cohorts": {"all": {}}}, "one of: source, phantom, cohort, part_of"),
        ({"cohorts": {"all": {"part_of": "al"}}}, "no 'al' in this study"),
        ({"encoders": {"volta": {"cohorts": ["haft"]}}}, "'half'"),
        ({"encoders": {"volta": {"preset": "smoke"}}}, "either cohorts to train on or a folder"),
        ({"encoders": {"a": {"like": "b"}, "b": {"like": "a"}}}, "circle"),
        ({"task": {}}, "Unknown key"),
        (
            {"tasks": {"x": {"kind": "classification", "cohort": "all", "arms": {}}}},
            "needs a target",
        ),
    ],
)
def test_O7_a_study_that_contradicts_itself_is_one_paragraph(
    parts: dict[str, Any], said: str, tmp_path: Path
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "tasks": {}, **parts}), encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        load_study(file)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_parts_that_go_round_in_a_circle_have_no_plan() -> None:
    cohorts = {"a": {"part_of": "b"}, "b": {"part_of": "a"}}
    with pytest.raises(ValueError, match="circle"):
        plan(build(StudyConfig, {"cohorts": cohorts}))


def test_sources_from_outside(tmp_path: Path) -> None:
    config = load_study("paper", {"ixi": "my/IXI"})
    assert config.cohorts["ixi"].source == ("my/IXI",)
    with pytest.raises(ConfigError, match="ixi"):
        load_study("paper", {"ixy": "my/IXI"})
    with pytest.raises(ConfigError, match="paper"):
        load_study(tmp_path / "papr.yaml")
