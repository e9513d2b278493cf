"""What is advised for memory: it loads, its effects are said, and what is the same comes first."""

from __future__ import annotations

import re

import pytest
import torch

from volta3d.config import PretrainConfig, load_pretrain, presets
from volta3d.doctor.advice import Change, advice, larger, smaller
from volta3d.errors import ConfigError, OutOfMemory
from volta3d.pretrain.loop import enough_memory


def base(preset: str, batch: int, *more: str) -> list[str]:
    return [preset, f"batch_size={batch}", "accumulate=2", *more]


def planned(settings: list[str]) -> PretrainConfig | None:
    """The configuration, or None where the preset refuses this batch."""
    try:
        return load_pretrain(settings[0], settings[1:])
    except ConfigError:
        return None


def advised(text: str) -> list[list[str]]:
    """The settings of each line, as a person would type them."""
    return [
        re.findall(r"--set ([\w.]+=\w+)", line) for line in text.splitlines() if "--set" in line
    ]


@pytest.mark.parametrize("preset", presets())
def test_everything_advised_loads_and_keeps_the_window(preset: str) -> None:
    tried = 0
    for batch in (1, 2, 3, 4, 6, 8, 9):
        for cadence in ("micro_step", "optimiser_step"):
            for koleo in (0.0, 0.1):
                for more in ("checkpointing=false", "checkpointing=true"):
                    settings = base(
                        preset, batch, f"optim.cadence={cadence}", f"objective.koleo={koleo}", more
                    )
                    config = planned(settings)
                    if config is None:
                        continue
                    texts = [
                        advice(memory, 100, config, held)
                        for memory in (1, 10, 95)
                        for held in (0, 5, 50)
                    ]
                    for change in [one for text in texts for one in advised(text)]:
                        found = load_pretrain(settings[0], [*settings[1:], *change])
                        window = found.batch_size * found.accumulate
                        assert window == 2 * batch, (settings, change)
                        tried += 1
    assert tried > 100


@pytest.mark.parametrize("preset", presets())
def test_what_goes_on_with_resume_is_the_same_science(preset: str) -> None:
    config = load_pretrain(preset)
    for change in smaller(config, resident=True):
        found = load_pretrain(preset, change.settings)
        assert (found.science() == config.science()) is change.resumes
        assert ("--resume" in change.text()) is change.resumes


def test_what_changes_nothing_comes_first() -> None:
    lines = advice(99, 100, PretrainConfig(batch_size=8, accumulate=2), held=10).splitlines()
    assert lines[0].startswith("Does not fit")
    assert lines[1].startswith("--set checkpointing=true: ") and "--resume" in lines[1]
    assert lines[2].startswith("--set data=stream: ") and "--resume" in lines[2]
    assert lines[3].startswith("--set batch_size=4 --set accumulate=4: a new run")
    kept = PretrainConfig(batch_size=8, accumulate=2, checkpointing=True)
    assert "checkpointing" not in advice(99, 100, kept)
    assert "data=stream" not in advice(99, 100, kept)


def test_enough_or_unknown_memory_needs_no_advice() -> None:
    config = PretrainConfig(batch_size=8, accumulate=2)
    assert advice(50, 100, config) == "" and advice(None, 100, config) == ""


def test_the_scans_count_where_they_are_held() -> None:
    config = PretrainConfig()
    assert advice(60, 100, config) == ""
    assert advice(60, 100, config, held=29) == ""
    assert "Does not fit" in advice(60, 100, config, held=31)


def test_koleo_keeps_two_scans_in_a_batch() -> None:
    assert not [c for c in smaller(load_pretrain("stable", ["batch_size=2"]), False) if _batch(c)]
    assert not [c for c in smaller(load_pretrain("stable", ["batch_size=3"]), False) if _batch(c)]
    (change,) = filter(_batch, smaller(load_pretrain("stable", ["batch_size=8"]), False))
    assert "KoLeo compares 4 scans instead of 8" in change.effect


def test_a_batch_of_three_becomes_single_scans_not_another_window() -> None:
    config = load_pretrain("smoke", ["batch_size=3", "accumulate=1"])
    (change,) = filter(_batch, smaller(config, False))
    assert change.settings == ("batch_size=1", "accumulate=3")


def test_a_teacher_that_follows_the_batch_is_said_to_move_more_often() -> None:
    config = load_pretrain("paper", ["batch_size=8", "accumulate=1"])
    (change,) = filter(_batch, smaller(config, False))
    assert "teacher and centres move after 4 scans instead of 8" in change.effect
    still = load_pretrain("smoke", ["batch_size=8", "accumulate=1"])
    (change,) = filter(_batch, smaller(still, False))
    assert "teacher" not in change.effect and "masked means" in change.effect
    bare = load_pretrain("smoke", ["batch_size=8", "objective.reconstruction=0"])
    (change,) = filter(_batch, smaller(bare, False))
    assert change.effect == "a new run with the same window and schedule"


def test_idle_memory_is_offered_only_where_the_objective_ignores_the_batch() -> None:
    settings = ["batch_size=2", "accumulate=8"]
    config = load_pretrain("smoke", settings)
    assert config.optim.cadence == "optimiser_step"
    found = larger(10, 100, config)
    assert found is not None and found.settings == ("batch_size=8", "accumulate=2")
    assert "--set batch_size=8 --set accumulate=2" in advice(10, 100, config)
    less = larger(10, 100, config, held=20)
    assert less is not None and less.settings == ("batch_size=4", "accumulate=4")
    assert larger(40, 100, config) is None
    for other in ("optim.cadence=micro_step", "objective.koleo=0.1"):
        assert larger(10, 100, load_pretrain("smoke", [*settings, other])) is None


@pytest.mark.parametrize("preset", presets())
def test_memory_that_runs_out_is_answered_by_settings_a_run_goes_on_with(preset: str) -> None:
    with pytest.raises(OutOfMemory) as told, enough_memory():
        raise torch.OutOfMemoryError("CUDA out of memory")
    text = str(told.value)
    given = re.findall(r"--set ([\w.]+=\w+)", text)
    assert given[0] == "checkpointing=true" and "--resume" in text
    found = load_pretrain(preset, given)
    assert found.science() == load_pretrain(preset).science()
    first = text.split("Halve batch_size")[0]
    assert "--resume" in first and "new run" not in first
    assert "koleo" in text and "cadence" in text


def _batch(change: Change) -> bool:
    return change.settings[0].startswith("batch_size")
