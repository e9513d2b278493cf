"""Scores of new scans against labels that are known."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score, roc_auc_score
from typer.testing import CliRunner

from volta3d.cli import app
from volta3d.errors import UsageError, VoltaError
from volta3d.evaluate.evaluate import evaluate
from volta3d.files import sha256
from volta3d.report import report

IDS = [f"p{i:02d}" for i in range(24)]
SEX = ["F" if i % 3 else "M" for i in range(24)]


def told(
    folder: Path,
    scores: Any,
    ids: list[str] = IDS,
    labels: tuple[str, ...] = ("F", "M"),
    **about: Any,
) -> Path:
    """A folder as ``predict`` leaves it."""
    folder.mkdir(parents=True)
    target = about.get("target", "sex")
    rows = pd.DataFrame(
        {
            "scan_id": [f"{i}_T1w" for i in ids],
            "participant_id": [f"sub-{i}" for i in ids],
            "session": "",
            "dataset": "new",
            "source": "x.nii.gz",
            "findings": "",
        }
    )
    scores = np.asarray(scores, float)
    if len(labels) > 2:
        rows[target] = [labels[k] for k in scores.argmax(1)]
        rows[[f"score {name}" for name in labels]] = scores
    elif labels:
        rows[target] = np.where(scores > 0.5, labels[1], labels[0])
        rows["score"] = scores
    else:
        rows[target] = scores
    rows.to_csv(folder / "predictions.tsv", sep="\t", index=False)
    content = {
        "kind": "classification" if labels else "regression",
        "target": target,
        "labels": list(labels),
        "threshold": 0.4 if len(labels) == 2 else None,
        "model_sha256": "a" * 64,
        "trained_on": {"cohort_hash": "there"},
        "cohorts": [],
        "synthetic": False,
        "predictions_sha256": sha256(folder / "predictions.tsv"),
    }
    (folder / "predictions.json").write_text(json.dumps(content | about))
    return folder


def truth(folder: Path, column: str = "sex", values: Any = SEX, ids: list[str] = IDS) -> Path:
    file = folder / "labels.tsv"
    pd.DataFrame({"participant_id": ids, column: values}).to_csv(file, sep="\t", index=False)
    return file


def scores_of(strength: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    logits = strength * (np.array(SEX) == "M") + rng.normal(size=24)
    scores: np.ndarray = np.round(1 / (1 + np.exp(-logits)), 3)
    return scores


def test_models_are_compared_on_scans_of_a_cohort_of_its_own(tmp_path: Path) -> None:
    good, poor = scores_of(4), scores_of(0, 1)
    folders = [told(tmp_path / "good", good), told(tmp_path / "poor", poor)]
    (found,) = evaluate(folders, labels=truth(tmp_path), out=tmp_path / "scores")
    by = {(r["arm"], r["metric"]): r["score"] for r in found["rows"]}
    positive = np.array(SEX) == "M"
    assert by["good", "AUROC"] == pytest.approx(roc_auc_score(positive, good), abs=1e-9)
    assert by["poor", "AUROC pooled"] == pytest.approx(roc_auc_score(positive, poor), abs=1e-9)
    assert by["good", "sensitivity at Youden"] == pytest.approx((good[positive] >= 0.4).mean())
    (pair,) = found["comparisons"]
    assert pair["test"] == "DeLong" and pair["p"] < 0.05 and "pooled" not in pair
    assert found["scans"] == found["subjects"] == 24 and found["folds"] == 1
    # the table it wrote gives the same again, alone
    again = evaluate([tmp_path / "scores"])[0]
    assert again == found == json.loads((tmp_path / "scores" / "metrics.json").read_text())


def test_what_is_left_out_is_recorded(tmp_path: Path) -> None:
    folders = [
        told(tmp_path / "a", scores_of(2)),
        told(tmp_path / "b", scores_of(1)[:-1], IDS[:-1]),
    ]
    values: list[Any] = list(SEX)
    values[0], values[1] = "", "unknown sex"
    labels = truth(tmp_path, values=values[:-2] + values[-1:], ids=IDS[:-2] + IDS[-1:])
    (found,) = evaluate(folders, labels=labels, out=tmp_path / "out")
    dropped = pd.read_csv(tmp_path / "out" / "dropped.tsv", sep="\t", index_col=0)
    assert dropped["reason"].to_dict() == {
        "p00_T1w": "no-label", "p01_T1w": "other-class", "p22_T1w": "no-row", "p23_T1w": "not-told",
    }  # fmt: skip
    assert found["scans"] == 20 and found["dropped"] == 4


def test_several_classes_and_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ages = np.round(rng.uniform(20, 80, 24), 1)
    guessed = np.round(ages + rng.normal(0, 5, 24), 2)
    folder = told(tmp_path / "age", guessed, labels=(), target="age")
    (found,) = evaluate([folder], labels=truth(tmp_path, "age", ages), out=tmp_path / "ages")
    by = {r["metric"]: r["score"] for r in found["rows"]}
    assert by["MAE"] == pytest.approx(np.abs(ages - guessed).mean(), abs=1e-9)
    assert by["R2"] == pytest.approx(r2_score(ages, guessed), abs=1e-9)
    names = ("CN", "MCI", "AD")
    which = rng.integers(0, 3, 24)
    shares = rng.dirichlet([1, 1, 1], 24)
    folder = told(tmp_path / "dx", shares, labels=names, target="dx")
    table = truth(tmp_path, "diagnosis", [names[k] for k in which])
    (found,) = evaluate([folder], labels=table, out=tmp_path / "three", target="diagnosis")
    by = {r["metric"]: r["score"] for r in found["rows"]}
    assert by["AUROC"] == pytest.approx(roc_auc_score(which, shares, multi_class="ovr"), abs=1e-9)


def test_scans_a_model_was_fitted_to_are_no_test(tmp_path: Path) -> None:
    folder = told(tmp_path / "a", scores_of(2), cohorts=["there"])
    result = CliRunner().invoke(
        app,
        ["evaluate", str(folder), "--labels", str(truth(tmp_path)), "--out", str(tmp_path / "out")],
    )
    assert result.exit_code == 0 and "a: NOT A TEST" in result.output


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folders = [told(tmp_path / side / "told", scores_of(1)) for side in ("x", "y")]
    (found,) = evaluate(folders, labels=truth(tmp_path), out=tmp_path / "out")
    assert set(found["arms"]) == {"x/told", "y/told"}


@pytest.mark.parametrize("what", ["no labels", "no out", "other target", "run beside", "twice"])
def test_what_cannot_be_compared_is_refused(tmp_path: Path, what: str) -> None:
    folders = [told(tmp_path / "a", scores_of(2))]
    given: dict[str, Any] = {"labels": truth(tmp_path), "out": tmp_path / "out"}
    if what == "no labels":
        del given["labels"]
    if what == "no out":
        del given["out"]
    if what == "other target":
        folders.append(told(tmp_path / "b", scores_of(2), target="diagnosis"))
    if what == "run beside":
        folders.append(tmp_path)
    if what == "twice":
        folders *= 2
    with pytest.raises(UsageError) as error:
        evaluate(folders, **given)
    assert error.value.fix
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("what", ["table", "json", "text"])
def test_a_changed_or_damaged_folder_is_refused(tmp_path: Path, what: str) -> None:
    folder = told(tmp_path / "a", scores_of(2))
    table, about = folder / "predictions.tsv", folder / "predictions.json"
    if what == "table":
        table.write_text(table.read_text().replace("0.", "0.9", 1))
    if what == "json":
        about.write_text("{}")
    if what == "text":
        table.write_text("nothing\n")
    with pytest.raises(VoltaError, match="predict left here"):
        evaluate([folder], labels=truth(tmp_path), out=tmp_path / "out")


def test_a_table_of_other_people_says_so(tmp_path: Path) -> None:
    folder = told(tmp_path / "a", scores_of(2))
    labels = truth(tmp_path, ids=[f"q{i}" for i in range(24)])
    with pytest.raises(VoltaError, match="No row of the table"):
        evaluate([folder], labels=labels, out=tmp_path / "out")


def test_report_takes_the_scores_as_a_run(tmp_path: Path) -> None:
    arm = {"kind": "volume", "tune": "full"}
    folders = [
        told(tmp_path / "good", scores_of(4)),
        told(tmp_path / "volume", scores_of(1), arm=arm, cohorts=["there"]),
    ]
    evaluate(folders, labels=truth(tmp_path, values=["", *SEX[1:]]), out=tmp_path / "new")
    page = report([tmp_path / "new"], tmp_path / "page").read_text(encoding="utf-8")
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "models fitted elsewhere, 23 participants" in text
    assert "head and brain volume alone" in text and "good against volume" in text
    assert "dropped.tsv says why" in text and "NOT A TEST: volume had been fitted" in text
    assert "cross-validation" not in text and "DeLong ER" in text
