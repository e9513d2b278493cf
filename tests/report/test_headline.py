"""The title in words, an answer for each question, confounds never green, weak arms named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from volta3d.report import report
from volta3d.report.evidence import Absent, Probe
from volta3d.report.figures_predictions import bland_altman, confusion, decisions
from volta3d.report.figures_predictions import predicted_against_true as scatter
from volta3d.report.headline import headlines, title
from volta3d.report.subgroups import subgroup_table
from volta3d.report.tables_probes import gain_table
from volta3d.report.task_run import TaskRun, read_task
from volta3d.report.verdict import comparisons, probe_lead
from volta3d.report.weak import weak_arms, weak_features


def probe(features: str, score: float, column: str = "site", **more: Any) -> Probe:
    given = {"probe": "linear", "metric": "AUROC", "low": score - 0.05, "high": score + 0.05}
    return Probe(column=column, features=features, score=score, n=100, **{**given, **more})


def site(gain: float) -> list[Probe]:
    paired = {"gain": gain, "gain_low": gain - 0.05, "gain_high": gain + 0.05}
    return [probe("trained token", 0.6 + gain, **paired), probe("untrained token", 0.6)]


@pytest.mark.parametrize("gain", [0.3, -0.3])
def test_a_confound_is_never_green_and_never_an_answer(gain: float) -> None:
    (line,) = headlines([], comparisons(site(gain)))
    assert (line.state, line.word) == ("unclear", "A confound")
    assert "better" not in line.sentence and "Features should not know the site" in line.sentence
    assert not gain_table(site(gain)).strong
    assert "Only confounds were probed" in probe_lead(comparisons(site(gain)))[0]


def test_a_page_with_a_site_that_is_better_known_holds_no_green(
    made: dict[str, Path], tmp_path: Path
) -> None:
    rows = [
        {"column": "site", "kind": "2 classes", "features": f, "probe": "linear", "metric": "AUROC",
         "score": s, "low": s - 0.02, "high": s + 0.02, "n": 90, **more}
        for f, s, more in (
            ("trained mean", 0.95, {"gain": 0.3, "gain_low": 0.2, "gain_high": 0.4}),
            ("untrained mean", 0.65, {}),
        )
    ]  # fmt: skip
    (tmp_path / "probes.json").write_text(json.dumps(rows))
    page = report([made["run"]], tmp_path / "out", probes=tmp_path / "probes.json").read_text()
    first = page.split('id="learnt"')[1].split("Not collapsed")[0]
    assert "answer beside unclear" in first and "answer beside good" not in first
    assert '<tr class="good">' not in page


def test_titles_are_questions(fabricate: ModuleType, tmp_path: Path) -> None:
    pretrained = read_task(fabricate.write_classification(tmp_path / "sex"))
    outlines = read_task(fabricate.write_segmentation(tmp_path / "outlines"))
    assert pretrained is not None and outlines is not None
    nobody = Absent("none")
    assert title([], [pretrained], [], nobody, synthetic="") == (
        "Does pretraining help? Brain scans, 60 people"
    )
    assert title([], [outlines], [], nobody, synthetic="Synthetic data") == (
        "Which arm does better? Synthetic brains, 12 people"
    )


def test_one_sentence_of_answer_with_its_figure(fabricate: ModuleType, tmp_path: Path) -> None:
    task = read_task(fabricate.write_classification(tmp_path / "sex"))
    assert task is not None
    (line,) = headlines([task], [])
    score = next(r for r in task.rows if (r["arm"], r["metric"]) == ("volta", "AUROC")
                 and r["fraction"] == 1.0)["score"]  # fmt: skip
    assert line.title == "Sex: does pretraining help?" and line.state == "good"
    assert line.sentence.startswith(f"volta reached AUROC {score:.2f}")
    assert "better than scratch (+" in line.sentence and line.figure is not None


def test_what_is_no_better_than_guessing_is_said(fabricate: ModuleType, tmp_path: Path) -> None:
    task = read_task(fabricate.write_classification(tmp_path / "sex"))
    assert task is not None
    rows = [
        {**r, "score": 0.52, "low": 0.41, "high": 0.63} if r["arm"] == "scratch" else r
        for r in task.rows
    ]
    weak = TaskRun(task.path, task.kind, task.config, {**task.metrics, "rows": rows})
    (sentence,) = weak_arms([weak])
    assert "arm scratch is no better than guessing sex, AUROC 0.52 [0.41, 0.63]" in sentence
    results = {"a": {"mean": {"dice": {"mean": 0.04}}}, "b": {"mean": {"dice": {"mean": 0.6}}}}
    outlined = TaskRun(Path("x"), "segmentation", metrics={"results": results, "structures": ["s"]})
    assert weak_arms([outlined]) == ["x: arm a outlined next to nothing of s, Dice 0.04."]
    low = probe("trained token", 0.54, "sex", kind="2 classes")
    assert "no better than guessing" in weak_features([low])[0]
    assert weak_features([probe("trained token", 0.9, "sex"), probe("trained token", 0.5)]) == []


def test_a_confusion_matrix_counts_what_the_threshold_decides(
    fabricate: ModuleType, tmp_path: Path
) -> None:
    task = read_task(fabricate.write_classification(tmp_path / "sex"))
    assert task is not None and task.predictions is not None
    decided = decisions(task)
    assert decided is not None
    right = 0
    for row in task.predictions.to_dict("records"):
        if row["arm"] == "volta" and row["seed"] == 0:
            right += ("M" if row["score"] >= row["threshold"] else "F") == row["target"]
    figure = confusion(task)
    assert figure is not None and f"volta: {right} of 60 right" in figure


def test_age_and_volumes_have_their_figures(fabricate: ModuleType, tmp_path: Path) -> None:
    told = pd.DataFrame({"arm": "a", "seed": 0, "scan_id": list("xyz"), "target": [30.0, 50, 70],
                         "score": [35.0, 50, 65]})  # fmt: skip
    metrics = {"target": "age", "rows": [{"arm": "a", "metric": "MAE", "fraction": 1.0}]}
    regression = TaskRun(Path("x"), "regression", metrics=metrics, predictions=told)
    figure = scatter(regression)
    assert figure is not None and "predicted age" in figure
    outlines = read_task(fabricate.write_segmentation(tmp_path / "outlines"))
    assert outlines is not None and outlines.cases is not None
    own = outlines.cases[outlines.cases["arm"] == "volta"]
    bias = np.mean([(r["mm3"] - r["reference_mm3"]) / 1000 for r in own.to_dict("records")])
    figure = bland_altman(outlines)
    found = re.search(r"volta bias (\S+) ml", str(figure))
    assert found is not None
    shown = float(found[1].replace("\N{MINUS SIGN}", "-"))  # to three digits
    assert shown == pytest.approx(bias, abs=1e-3)


def test_scores_by_site_sex_and_age_against_a_loop(fabricate: ModuleType, tmp_path: Path) -> None:
    task = read_task(fabricate.write_classification(tmp_path / "sex"))
    assert task is not None and task.scores is not None
    people = pd.DataFrame({"scan_id": [f"s{i:02d}" for i in range(60)]})
    people["site"] = ["north" if i < 25 else "south" for i in range(60)]
    people["sex"], people["age"] = ["FM"[i % 2] for i in range(60)], np.arange(60) + 20.0
    table = subgroup_table(task, people)
    assert table is not None and table.folded
    rows = {row[0]: row for row in table.rows}
    scores: dict[str, list[float]] = {}
    truth: dict[str, int] = {}
    for row in task.scores.to_dict("records"):
        if row["arm"] == "volta" and int(row["scan_id"][1:]) < 25:
            scores.setdefault(row["scan_id"], []).append(row["score"])
            truth[row["scan_id"]] = row["target"]
    means = {k: float(np.mean(v)) for k, v in scores.items()}
    pairs = [(means[a], means[b]) for a in means for b in means if truth[a] > truth[b]]
    auroc = np.mean([(x > y) + 0.5 * (x == y) for x, y in pairs])
    assert rows["site north"][1:3] == ("25", f"{auroc:.2f}")
    assert rows["sex F"][2] == "\N{EN DASH}"  # one class alone has no AUROC
    assert table.gaps and subgroup_table(task, None) is None


def test_a_unetr_s_rival_is_the_unetr_from_scratch() -> None:
    from volta3d.report.headline import _rival

    sizes = {"kind": "unetr", "classes": 2}
    arms = {
        "volta": {"kind": "encoder", "encoder_sha256": "ab", "architecture": sizes},
        "unet": {"kind": "unet", "encoder_sha256": "", "architecture": {"kind": "unet"}},
        "scratch": {"kind": "scratch", "encoder_sha256": "", "architecture": sizes},
    }
    metrics = {"results": {arm: {} for arm in arms}}
    task = TaskRun(Path("x"), "segmentation", config={"arms": arms}, metrics=metrics)
    assert _rival(task) == "scratch"
