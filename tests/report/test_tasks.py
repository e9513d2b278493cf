"""Runs of classify and segment in the report: the answer, its rule, tables and figures."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from volta3d.report import report
from volta3d.report.answers import NOBODY, answers
from volta3d.report.figures_reduced import reduced
from volta3d.report.figures_roc import roc
from volta3d.report.sections_tasks import OPTIMISTIC, SIZE_TELLS, warnings
from volta3d.report.task_run import TaskRun, read_task


@pytest.fixture(scope="module")
def folders(fabricate: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tasks")
    return {
        "sex": fabricate.write_classification(root / "sex"),
        "bare": fabricate.write_classification(root / "bare", arms=("volta", "scratch")),
        "outlines": fabricate.write_segmentation(root / "outlines"),
    }


def task(path: Path) -> TaskRun:
    found = read_task(path)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def page(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("out") / "report"
    return report([folders["sex"], folders["outlines"]], out).read_text(encoding="utf-8")


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.split("<main")[1]))


def test_a_pretraining_run_is_no_task(made: dict[str, Path]) -> None:
    assert read_task(made["run"]) is None


def test_the_answer_stands_first(page: str) -> None:
    assert (
        page.index('class="answer') < page.index('class="findings"') < page.index('id="failures"')
    )
    heading = re.sub(r"<[^>]+>", "", page.split("<h1>")[1].split("</h1>")[0])
    assert heading == "Does pretraining help? Synthetic brains, 60 people"
    text = text_of(page)
    assert "volta against scratch" in text and "volta against unet" in text
    assert "synthetic" in page.split("<header")[0].lower()


def test_downstream_runs_alone_make_a_report_without_words_about_pretraining(page: str) -> None:
    assert "Collapse monitors" not in page
    assert "No probe table was given" not in page


def pair(**changes: Any) -> dict[str, Any]:
    base = {"fraction": 1.0, "first": "a", "second": "b", "metric": "AUROC pooled"}
    base |= {"test": "DeLong", "difference": 0.2, "low": 0.1, "high": 0.3}
    return base | {"p": 0.001, "p_holm": 0.003} | changes


def row(arm: str) -> dict[str, Any]:
    return {"arm": arm, "fraction": 1.0, "metric": "AUROC pooled", "score": 0.7}


def told(pairs: list[dict[str, Any]], arms: tuple[str, ...] = ("a", "b")) -> list[Any]:
    metrics = {"kind": "classification", "target": "x", "rows": [row(a) for a in arms]}
    run = TaskRun(Path("x"), "classification", metrics=metrics | {"comparisons": pairs})
    return answers([run], [])


@pytest.mark.parametrize(
    ("changes", "better"),
    [
        ({}, "a"),
        ({"difference": -0.2, "low": -0.3, "high": -0.1}, "b"),
        ({"p_holm": 0.06}, NOBODY),  # the interval leaves out 0, but Holm's p does not convince
        ({"low": -0.01}, NOBODY),
        ({"p_holm": None}, NOBODY),
        ({"low": None, "high": None}, NOBODY),
        ({"metric": "MAE"}, "b"),  # more error is worse
    ],
)
def test_better_is_said_only_where_interval_and_test_agree(
    changes: dict[str, Any], better: str
) -> None:
    (line,) = told([pair(**changes)])
    assert line.better == better
    assert line.state == {"a": "good", "b": "bad", NOBODY: "unclear"}[better]


def test_the_first_arm_is_the_one_that_is_compared() -> None:
    pairs = [pair(first="b", second="a", difference=-0.2, low=-0.3, high=-0.1)]
    pairs.append(pair(first="b", second="c"))
    pairs.append(pair(fraction=0.2))
    (line,) = told(pairs, ("a", "b", "c"))
    assert (line.compared, line.better) == ("a against b", "a")
    assert line.by.startswith("+0.200 [0.100, 0.300]")


def test_volume_alone_stands_beside_every_score_of_sex(folders: dict[str, Path]) -> None:
    lines = answers([task(folders["sex"])], [])
    assert lines and all(re.match(r"0\.\d\d \[.*\(volume\)", line.volume) for line in lines)
    bare = task(folders["bare"])
    assert all(line.volume == "not measured" for line in answers([bare], []))
    assert any(SIZE_TELLS in text for text in warnings(bare))
    figure = roc(task(folders["sex"]))
    assert figure is not None and "volume" in figure


def test_figures_show_every_arm_and_fraction(folders: dict[str, Path]) -> None:
    run = task(folders["sex"])
    figure = reduced(run, "AUROC")
    assert figure is not None
    assert all(arm in figure for arm in run.arms) and "50 %" in figure
    only = TaskRun(run.path, run.kind, metrics={"rows": [r for r in run.rows if run.full == 1.0]})
    only.metrics["rows"] = [r for r in run.rows if r["fraction"] == 1.0]
    assert reduced(only, "AUROC") is None


def test_figures_agree_with_the_metrics(folders: dict[str, Path]) -> None:
    """The area under the drawn ROC curve, by trapezoids, is the pooled AUROC of one seed's mean."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    run = task(folders["sex"])
    assert run.scores is not None
    for arm in run.arms:
        own = run.scores[run.scores["arm"] == arm].groupby("scan_id")[["target", "score"]].mean()
        positive, negative = (own["score"][own["target"] == t].to_numpy() for t in (1, 0))
        pairs = (positive[:, None] > negative[None]) + 0.5 * (positive[:, None] == negative[None])
        np.testing.assert_allclose(roc_auc_score(own["target"], own["score"]), pairs.mean())


def test_a_missed_structure_is_counted_and_choosing_on_the_test_is_said(
    folders: dict[str, Path], page: str
) -> None:
    run = task(folders["outlines"])
    assert run.arms == ["volta", "unet"]  # as declared, not by the alphabet
    assert any(OPTIMISTIC in text for text in warnings(run))
    text = text_of(page)
    assert "It has no label map" in text
    table = re.search(r"<table>(?:(?!</table>).)*HD95(?:(?!</table>).)*</table>", page, re.DOTALL)
    assert table is not None
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in table[0].split("<tr")[2:]]
    missed = {(c[0], c[1]): c[6] for c in cells}
    assert missed["unet", "left"] == "1" and missed["volta", "left"] == "0"
    dice = run.metrics["results"]["volta"]["left"]["dice"]["mean"]
    assert any(c[:2] == ["volta", "left"] and c[2].startswith(f"{dice:.3f}") for c in cells)


def test_methods_tell_what_was_done(page: str) -> None:
    text = text_of(page)
    assert "3-fold cross-validation" in text and "a hold-out of 20 % of the participants" in text
    assert "DeLong ER" in text and "Holm S." in text


def test_one_arm_alone_has_its_score_for_an_answer(fabricate: ModuleType, tmp_path: Path) -> None:
    sex = fabricate.write_classification(tmp_path / "sex", arms=("volta",))
    outlines = fabricate.write_segmentation(tmp_path / "outlines", arms=("unet",))
    text = text_of(report([sex, outlines], tmp_path / "out").read_text(encoding="utf-8"))
    first = text.split("What went wrong")[0]
    row = task(sex).row("volta", "AUROC")
    assert row is not None and f"volta reached AUROC {row['score']:.3f} [" in first
    dice = list(task(outlines).metrics["results"]["unet"].values())[-1]["dice"]["mean"]
    assert f"unet reached Dice {dice:.3f} [" in first and "structure missed" in first
    assert "against" not in first


def test_a_run_that_is_not_scored_says_what_to_do(fabricate: ModuleType, tmp_path: Path) -> None:
    run = fabricate.write_classification(tmp_path / "sex")
    (run / "metrics.json").unlink()
    text = text_of(report([run], tmp_path / "out").read_text(encoding="utf-8"))
    assert "volta3d evaluate sex" in text


@pytest.mark.parametrize("name", ["predictions.parquet", "config.yaml", "arms/volta/metrics.jsonl"])
def test_a_damaged_piece_never_stops_the_report(
    fabricate: ModuleType, tmp_path: Path, name: str
) -> None:
    run = fabricate.write_classification(tmp_path / "sex")
    (run / name).write_bytes(b"\xff{[\x00no")
    assert report([run], tmp_path / "out").is_file()


HOSTILE = "<script>alert(1)</script>"


def test_S11_names_of_arms_are_escaped(fabricate: ModuleType, tmp_path: Path) -> None:
    run = fabricate.write_classification(tmp_path / "sex")
    text = (run / "metrics.json").read_text().replace("scratch", json.dumps(HOSTILE)[1:-1])
    (run / "metrics.json").write_text(text)
    page = report([run], tmp_path / "out").read_text(encoding="utf-8")
    assert HOSTILE not in page and "&lt;script&gt;alert(1)" in page


def test_nan_is_a_dash(folders: dict[str, Path]) -> None:
    from volta3d.report.figures_folds import interval_words

    assert interval_words({"score": math.nan}) == "\N{EN DASH}"
    assert (
        interval_words({"score": -0.001, "low": -0.2, "high": 0.2})
        == "0.00 [\N{MINUS SIGN}0.20, 0.20]"
    )


@pytest.mark.parametrize(
    ("saw", "sentence"),
    [
        ("none of these scans", "In pretraining volta saw none of these scans."),
        ("all of these scans, without labels", "volta saw all of these scans, without labels."),
        ("7 of these scans, without labels", "volta saw 7 of these scans, without labels."),
        ("unknown", "It is not known what pretraining volta saw of this cohort."),
        ("none", ""),
    ],
)
def test_L2_what_pretraining_saw_is_told_as_it_was_found(
    saw: str, sentence: str, fabricate: ModuleType, tmp_path: Path
) -> None:
    from volta3d.report.sections_tasks import warnings
    from volta3d.report.task_run import read_task

    run = fabricate.write_classification(tmp_path / "sex", arms=("volta", "volume"))
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["arms"]["volta"]["pretraining_saw"] = saw
    (run / "metrics.json").write_text(json.dumps(metrics))
    task = read_task(run)
    assert task is not None
    told = " ".join(warnings(task))
    assert sentence in told
    assert ("saw" in told) is bool(sentence)


def test_a_measure_that_no_case_has_is_no_verdict(fabricate: ModuleType, tmp_path: Path) -> None:
    from volta3d.report.answers import UNTOLD
    from volta3d.report.task_run import read_task

    run = fabricate.write_segmentation(tmp_path / "outlines")
    metrics = json.loads((run / "metrics.json").read_text())
    for test in metrics["tests"]:
        if test["metric"] == "hd95_mm":
            test |= dict.fromkeys(("difference", "low", "high", "p", "p_holm")) | {"n": 0}
    (run / "metrics.json").write_text(json.dumps(metrics))
    task = read_task(run)
    assert task is not None
    found = answers([task], [])
    assert {f.better for f in found if "HD95" in f.by} == {UNTOLD}
    assert UNTOLD not in {f.better for f in found if "Dice" in f.by}
