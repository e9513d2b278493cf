"""The demo from raw scans to its last screen, tiny: every stage, and none of them twice."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from volta3d.cohort.store import Cohort
from volta3d.config import PretrainConfig, load_pretrain
from volta3d.demo import DemoResult, demo, run, tasks
from volta3d.demo.gains import lost
from volta3d.demo.text import how_to_open, scores, task_lines
from volta3d.downstream.classification.fold_runner import ClassifyRunner
from volta3d.downstream.segmentation.fit import Fit
from volta3d.errors import UsageError, VoltaError
from volta3d.evaluate.probes import probe
from volta3d.phantom import generate

SUBJECTS = 24
TINY_SEGMENT: dict[str, Any] = {
    **{"epochs": 1, "crops.size": 32, "selection": "last", "overlap": 0, "unetr.features": 2},
    **{"unet.channels": [2, 4], "unet.strides": [2], "unet.residual_units": 0},
}


def smoke(_: str, assignments: list[str]) -> PretrainConfig:
    """Stands in for the demo's preset: one epoch of the smallest network."""
    return load_pretrain("smoke", [*assignments, "epochs=1"])


def age_alone(encoder: Path, cohort: Path, _: list[str], out: Path) -> pd.DataFrame:
    """Stands in for the probes of all columns, which take most of the time on tiny scans."""
    return probe(encoder, cohort, ["age"], out)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The demo's folder, its result, and what it said; scans, networks and epochs are tiny."""
    out = tmp_path_factory.mktemp("demo") / "demo-out"
    generate(out / "raw", subjects=SUBJECTS, spacing=6.0)
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        result = demo(out, subjects=SUBJECTS, workers=1, say=said.append)
    return {"out": out, "result": result, "said": said}


def shrink(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(run, "PREPARE", {"size": 32, "spacing": 6.0, "fit": "pad"})
    patch.setattr(run, "PRETRAIN", ())
    patch.setattr(run, "load_pretrain", smoke)
    patch.setattr(run, "probe", age_alone)
    patch.setattr(tasks, "CLASSIFY", {"epochs": 1, "pooling": "regions"})
    patch.setattr(tasks, "SEGMENT", TINY_SEGMENT)


def outlined(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    results: dict[str, Any] = found["hippocampus"]["results"]
    return results


def test_stages_are_counted_without_a_gap(made: dict[str, Any]) -> None:
    counted = [re.match(r"(\d+)/(\d+) ", line) for line in made["said"]]
    assert [(m[1], m[2]) for m in counted if m] == [(str(i), "8") for i in range(1, 9)]


def test_pretraining_saw_nobody_that_is_tested_on(made: dict[str, Any]) -> None:
    out = made["out"]
    people = [
        set(Cohort.open(out / name).participants["participant_id"])
        for name in ("unlabelled", "labelled")
    ]
    assert not people[0] & people[1] and len(people[0] | people[1]) == SUBJECTS
    card = json.loads((out / "run" / "cohort.json").read_text(encoding="utf-8"))
    assert card["cohorts"][0]["scans"] == len(people[0]) == round(0.6 * SUBJECTS)
    declared = made["result"].tasks["sex"]["arms"]
    assert declared["volta"]["pretraining_saw"] == "none of these scans"


def test_the_rivals_are_identical_but_for_pretraining(made: dict[str, Any]) -> None:
    arms = made["result"].tasks["sex"]["arms"]
    assert list(scores(made["result"].tasks["sex"])) == [
        "volta", "scratch", "linear", "untrained", "volume",
    ]  # fmt: skip
    for arm, rival in (("volta", "scratch"), ("linear", "untrained")):
        ours, theirs = arms[arm], arms[rival]
        assert ours["model"] == theirs["model"] and ours["kind"] == theirs["kind"]
        assert ours["image_size"] == theirs["image_size"]
        assert ours["encoder_sha256"] and not theirs["encoder_sha256"]
    assert list(scores(made["result"].tasks["hippocampus"])) == ["volta", "scratch", "unet"]
    labelled = len(Cohort.open(made["out"] / "labelled"))
    cases = {m["mean of structures"]["subjects"] for m in outlined(made["result"].tasks).values()}
    assert cases == {labelled // 2}
    assert len(list((made["out"] / "hippocampus" / "figures").glob("*.png"))) == 2


def test_the_report_asks_in_words_and_shows_the_tasks_beside_the_run(made: dict[str, Any]) -> None:
    page = made["result"].report.read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert f"Does pretraining help? Synthetic brains, {len_labelled(made)} people" in text
    assert "Hippocampus: does pretraining help?" in text
    for words in ("Sex: arms compared", "volta against scratch", "volta against unet"):
        assert words in text, words
    assert "Synthetic data" in text


def len_labelled(made: dict[str, Any]) -> int:
    return len(Cohort.open(made["out"] / "labelled"))


def test_the_last_screen_fits(made: dict[str, Any]) -> None:
    lines = made["result"].text().splitlines()
    assert len(lines) <= 24
    assert max(len(line) for line in lines if "Open " not in line and "copy " not in line) <= 80
    text = "\n".join(lines)
    assert f"Made     {SUBJECTS} synthetic brains: 14 to pretrain on" in text
    assert "age, r: " in text and "SYNTHETIC" in text and "Open     " in text
    for arm in ("pretrained", "same network, scratch", "untrained, frozen", "3D U-Net", "volume"):
        assert re.search(rf"^  {arm}", text, re.MULTILINE), arm


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
    monkeypatch.setattr(run, "part_of", refuse)
    monkeypatch.setattr(run, "probe", lambda *_: before.probes)  # they are made anew each time
    monkeypatch.setattr(run, "report", lambda *_, **__: before.report)
    again = demo(made["out"], subjects=SUBJECTS, workers=1, say=lambda _: None)
    for name, metrics in before.tasks.items():
        assert scores(again.tasks[name]) == scores(metrics)


def test_a_folder_of_another_demo_is_refused(made: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="demo with other settings"):
        demo(made["out"], quick=True)


def test_a_full_disk_is_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=20e6))
    with pytest.raises(VoltaError, match="20 MB free, the demo takes 500 MB"):
        demo(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_without_a_display_it_says_where_to_take_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    assert "No display here" in how_to_open(tmp_path / "index.html")[1]
    monkeypatch.setenv("DISPLAY", ":0")
    assert len(how_to_open(tmp_path / "index.html")) == 1


def test_a_score_that_is_undefined_says_so() -> None:
    row = {"arm": "volta", "metric": "AUROC", "score": None, "low": None, "high": None}
    lines = task_lines({"sex": {"kind": "classification", "rows": [row]}})
    assert lines[-1].split() == ["pretrained", "undefined"]


def test_a_loss_of_pretraining_is_noticed() -> None:
    def of(**scores: float | None) -> dict[str, Any]:
        return {"task": {arm: {"score": score} for arm, score in scores.items()}}

    assert lost(of(volta=0.8, scratch=0.6, linear=0.9, untrained=0.7, volume=0.99)) == []
    assert lost(of(volta=0.61, scratch=0.6)) == ["task: volta 0.61, scratch 0.60"]
    assert lost(of(linear=None, untrained=0.6)) == ["task: linear undefined, untrained 0.60"]
    assert "not learnt to outline" in lost(of(volta=0.7, scratch=0.3, unet=0.8))[0]
