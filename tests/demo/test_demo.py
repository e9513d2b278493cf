"""The demo from raw scans to its closing words, tiny: every stage, and none of them twice."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from volta3d.config import PretrainConfig, load_pretrain
from volta3d.demo import DemoResult, demo, run, tasks
from volta3d.demo.text import scores, task_lines
from volta3d.downstream.classification.fold_runner import ClassifyRunner
from volta3d.downstream.segmentation.fit import Fit
from volta3d.evaluate.probes import probe
from volta3d.phantom import generate

SUBJECTS = 12
TINY_SEGMENT: dict[str, Any] = {
    **{"epochs": 1, "crops.size": 32, "selection": "last", "overlap": 0, "unetr.features": 2},
    **{"unet.channels": [2, 4], "unet.strides": [2], "unet.residual_units": 0},
}


def smoke(_: str, assignments: list[str]) -> PretrainConfig:
    """Stands in for the demo's preset: one epoch of the smallest network."""
    return load_pretrain("smoke", [*assignments, "epochs=1"])


def age_alone(encoder: Path, cohort: Path, _: None, out: Path) -> pd.DataFrame:
    """Stands in for the probes of all columns, which take most of the time on tiny scans."""
    return probe(encoder, cohort, ["age"], out)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The demo's folder, its result, and what it said; scans, networks and epochs are tiny."""
    out = tmp_path_factory.mktemp("demo") / "demo-out"
    generate(out / "raw", subjects=SUBJECTS, spacing=4.0)
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        result = demo(out, subjects=SUBJECTS, workers=1, say=said.append)
    return {"out": out, "result": result, "said": said}


def shrink(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(run, "SIZE", 32)
    patch.setattr(run, "load_pretrain", smoke)
    patch.setattr(run, "probe", age_alone)
    patch.setattr(tasks, "CLASSIFY", {"epochs": 1})
    patch.setattr(tasks, "SEGMENT", TINY_SEGMENT)


def outlined(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    results: dict[str, Any] = found["hippocampus"]["results"]
    return results


def test_stages_are_counted_without_a_gap(made: dict[str, Any]) -> None:
    counted = [re.match(r"(\d+)/(\d+) ", line) for line in made["said"]]
    assert [(m[1], m[2]) for m in counted if m] == [(str(i), "8") for i in range(1, 9)]


def test_arms_of_every_task_are_scored_on_people_they_were_not_trained_on(
    made: dict[str, Any],
) -> None:
    found = made["result"].tasks
    assert list(found) == ["sex", "diagnosis", "hippocampus"]
    for column in ("sex", "diagnosis"):
        assert list(scores(found[column])) == ["volta", "scratch", "linear", "volume"]
        assert found[column]["subjects"] == SUBJECTS and found[column]["synthetic"] is True
    assert list(scores(found["hippocampus"])) == ["volta", "unet"]
    assert all(by["mean of structures"]["subjects"] == 2 for by in outlined(found).values())
    assert len(list((made["out"] / "hippocampus" / "figures").glob("*.png"))) == 2


def test_the_report_shows_the_tasks_beside_the_run(made: dict[str, Any]) -> None:
    page = made["result"].report.read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for words in ("Sex: arms compared", "Diagnosis: arms compared", "volta against unet"):
        assert words in text, words
    assert "Synthetic data" in text


def test_the_closing_words_name_every_arm_and_say_synthetic(made: dict[str, Any]) -> None:
    text = made["result"].text()
    assert "sex, AUROC" in text and "diagnosis, AUROC" in text and "hippocampus, Dice" in text
    for arm in ("the encoder", "same ViT, scratch", "linear on", "volume alone", "3D U-Net"):
        assert re.search(rf"^  {arm}", text, re.MULTILINE), arm
    assert text.count("SYNTHETIC") == 2
    assert max(len(line) for line in text.splitlines() if "Open " not in line) <= 88


def test_a_second_call_trains_nothing_again(
    made: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("done a second time")

    before: DemoResult = made["result"]
    shrink(monkeypatch)
    monkeypatch.setattr(ClassifyRunner, "do", refuse)
    monkeypatch.setattr(Fit, "run", refuse)
    monkeypatch.setattr(run, "generate", refuse)
    monkeypatch.setattr(run, "probe", lambda *_: before.probes)  # they are made anew each time
    monkeypatch.setattr(run, "report", lambda *_, **__: before.report)
    again = demo(made["out"], subjects=SUBJECTS, workers=1, say=lambda _: None)
    for name, metrics in before.tasks.items():
        assert scores(again.tasks[name]) == scores(metrics)


def test_a_score_that_is_undefined_says_so() -> None:
    row: dict[str, object] = {
        "arm": "volta",
        "metric": "AUROC",
        "score": None,
        "low": None,
        "high": None,
    }
    row |= {"scans": 4, "subjects": 4}
    lines = task_lines({"sex": {"kind": "classification", "rows": [row], "comparisons": []}})
    assert lines[-1].split() == ["the", "encoder", "undefined"]
