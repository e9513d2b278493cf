"""Scores of new scans against labels that are known."""

from __future__ import annotations

import json
import re
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score, roc_auc_score
from typer.testing import CliRunner

from volta3d.cli import app
from volta3d.downstream.classification.predict_scores import told_column
from volta3d.errors import UsageError, VoltaError
from volta3d.evaluate.evaluate import evaluate
from volta3d.files import sha256
from volta3d.report import report
from volta3d.report.answers import alone
from volta3d.report.task_run import read_task

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
    column = told_column(target, labels)
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
        rows[column] = [labels[k] for k in scores.argmax(1)]
        rows[[f"score {name}" for name in labels]] = scores
    elif labels:
        rows[column] = np.where(scores > 0.5, labels[1], labels[0])
        rows["score"] = scores
    else:
        rows[column] = scores
    rows.to_csv(folder / "predictions.tsv", sep="\t", index=False)
    content = {
        "kind": "classification" if labels else "regression",
        "target": target,
        "labels": list(labels),
        "threshold": 0.4 if len(labels) == 2 else None,
        "model_sha256": "a" * 64,
        "trained_on": {"cohort_hash": "there"},
        "cohorts": [],
        "fitted": {"scans": [], "unknown": []},
        "files": {},
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
        "p00_T1w": "no-label", "p01_T1w": "other-class", "p22_T1w": "no-row",
        "p23_T1w": "not-predicted",
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


def called(*args: object) -> Any:
    return CliRunner().invoke(app, ["evaluate", *map(str, args)])


def fitted(*lists: list[str]) -> dict[str, list[str]]:
    """As ``predict`` records which scans a model was fitted to, and of which that is unknown."""
    named = zip_longest(("scans", "unknown"), lists, fillvalue=())
    return {str(key): [f"{i}_T1w" for i in ids] for key, ids in named}


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"fitted": fitted(IDS[:5])}, "a: NOT A TEST: 5 of 24 scans were fitted"),
        ({"fitted": fitted(IDS[:5], IDS[5:])}, "a: NOT A TEST: 5 of 24 scans were fitted"),
        ({"fitted": fitted([], IDS)}, "It is not known whether a was fitted to these scans"),
        ({"fitted": None}, "It is not known whether a was fitted to these scans"),
        ({"fitted": None, "cohorts": ["there"]}, "a: NOT A TEST: scans of this cohort were fitted"),
        ({"fitted": fitted(["somebody-else"])}, ""),
    ],
)
def test_scans_a_model_was_fitted_to_are_no_test(
    tmp_path: Path, about: dict[str, Any], said: str
) -> None:
    folder = told(tmp_path / "a", scores_of(2), **about)
    result = called(folder, "--labels", truth(tmp_path), "--out", tmp_path / "out")
    assert result.exit_code == 0
    if said:
        assert said in result.output
        page = report([tmp_path / "out"], tmp_path / "page").read_text(encoding="utf-8")
        assert said in " ".join(re.sub(r"<[^>]+>", " ", page).split())
    else:
        assert "fitted to" not in result.output and "NOT A TEST" not in result.output


def test_only_scored_scans_count_as_fitted(tmp_path: Path) -> None:
    folder = told(tmp_path / "a", scores_of(2), fitted=fitted(IDS[:5]))
    labels = truth(tmp_path, values=SEX[4:], ids=IDS[4:])
    (found,) = evaluate([folder], labels=labels, out=tmp_path / "out")
    assert found["arms"]["a"]["trained_on_these"] == 1 and found["scans"] == 20


def test_what_pretraining_saw_of_the_training_cohort_is_not_said_of_this_one(
    tmp_path: Path,
) -> None:
    saw = {"kind": "vit", "pretraining_saw": "all of these scans, without labels"}
    scratch = {"kind": "vit", "pretraining_saw": "none"}
    folders = [
        told(tmp_path / "a", scores_of(2), arm=saw),
        told(tmp_path / "b", scores_of(1), arm=scratch),
    ]
    (found,) = evaluate(folders, labels=truth(tmp_path), out=tmp_path / "out")
    assert [a["pretraining_saw"] for a in found["arms"].values()] == ["unknown", "none"]
    assert "without labels" not in (tmp_path / "out" / "config.yaml").read_text()


@pytest.mark.parametrize("what", ["classify run", "no config", "metrics", "told", "broken config"])
def test_a_folder_that_holds_something_else_is_never_written_to(tmp_path: Path, what: str) -> None:
    folder, out = told(tmp_path / "a", scores_of(2)), tmp_path / "out"
    out.mkdir()
    files = {
        "classify run": {"config.yaml": "command: classify\n", "predictions.parquet": "x"},
        "no config": {"predictions.parquet": "x"},
        "metrics": {"metrics.json": "{}"},
        "told": {},
        "broken config": {"config.yaml": "a: [\n"},
    }[what]
    for name, text in files.items():
        (out / name).write_text(text)
    if what == "told":
        out = tmp_path / "b" / ".." / "a"
        (tmp_path / "b").mkdir()
    before = {p: p.read_bytes() for p in out.iterdir()}
    with pytest.raises(UsageError, match="folder for scores"):
        evaluate([folder], labels=truth(tmp_path), out=out)
    assert {p: p.read_bytes() for p in out.iterdir()} == before


def test_scores_may_be_made_again_in_their_folder(tmp_path: Path) -> None:
    folder = told(tmp_path / "a", scores_of(2))
    given: dict[str, Any] = {"labels": truth(tmp_path), "out": tmp_path / "out"}
    assert evaluate([folder], **given) == evaluate([folder], **given)


@pytest.mark.parametrize("column", ["participant_id", "session", "dataset"])
def test_one_id_for_two_scans_is_refused(tmp_path: Path, column: str) -> None:
    folders = [told(tmp_path / name, scores_of(2)) for name in "ab"]
    table = pd.read_csv(folders[1] / "predictions.tsv", sep="\t", dtype=str, keep_default_na=False)
    table.loc[3, column] = "other"
    table.to_csv(folders[1] / "predictions.tsv", sep="\t", index=False)
    about = json.loads((folders[1] / "predictions.json").read_text())
    about["predictions_sha256"] = sha256(folders[1] / "predictions.tsv")
    (folders[1] / "predictions.json").write_text(json.dumps(about))
    with pytest.raises(UsageError, match=f"p03_T1w is not the same scan .* its {column} is"):
        evaluate(folders, labels=truth(tmp_path), out=tmp_path / "out")


def test_dropped_scans_are_told_and_so_is_a_class_without_any(tmp_path: Path) -> None:
    folder, out = told(tmp_path / "a", scores_of(2)), tmp_path / "out"
    labels = truth(tmp_path, values=[s if s == "F" else "" for s in SEX])
    result = called(folder, "--labels", labels, "--out", out)
    said = " ".join(result.output.split())
    assert result.exit_code == 3
    assert "8 scans left out, the first: p00_T1w, No sex is known for it." in said
    assert f"All are in {out / 'dropped.tsv'}" in said.replace("- ", "-")
    assert "No scored scan is M: AUROC is undefined" in said
    again = called(out)
    assert again.exit_code == 3 and "8 scans left out" in again.output
    page = report([out], tmp_path / "page").read_text(encoding="utf-8")
    assert "No scored scan is M" in page


def test_options_that_would_change_nothing_are_refused(tmp_path: Path) -> None:
    folder, table = told(tmp_path / "a", scores_of(2)), truth(tmp_path)
    run = tmp_path / "run"
    evaluate([folder], labels=table, out=run)
    options: list[dict[str, Any]] = [{"labels": table}, {"out": tmp_path / "x"}, {"target": "sex"}]
    for given in options:
        with pytest.raises(UsageError, match=f"--{next(iter(given))} would change nothing"):
            evaluate([run], **given)
    with pytest.raises(UsageError, match="--target is for folders of predict"):
        evaluate([run], reference=tmp_path, target="sex")
    with pytest.raises(VoltaError, match="No such run"):
        evaluate([tmp_path / "nowhere"], labels=table, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_run_that_also_holds_told_scores_stays_a_run(tmp_path: Path) -> None:
    folder = told(tmp_path / "a", scores_of(2))
    (found,) = evaluate([folder], labels=truth(tmp_path), out=tmp_path / "out")
    for name in ("predictions.tsv", "predictions.json"):
        (tmp_path / "out" / name).write_bytes((folder / name).read_bytes())
    assert evaluate([tmp_path / "out"]) == [found]
    (other,) = evaluate([tmp_path / "out"], labels=truth(tmp_path), out=tmp_path / "new")
    assert set(other["arms"]) == {"out"}


def test_people_who_share_a_file_are_one_subject(tmp_path: Path) -> None:
    files = {f"{i}_T1w": ("same" if i in IDS[:2] else i) for i in IDS}
    folder = told(tmp_path / "a", scores_of(2), files=files)
    values = ["F", *SEX[1:]]  # of the same person
    (found,) = evaluate([folder], labels=truth(tmp_path, values=values), out=tmp_path / "out")
    assert found["scans"] == 24 and found["subjects"] == 23


@pytest.mark.parametrize("target", ["session", "findings", "score"])
def test_numbers_called_as_a_known_column_are_found(tmp_path: Path, target: str) -> None:
    rng = np.random.default_rng(0)
    truths = rng.uniform(1, 9, 24)
    folder = told(tmp_path / "a", truths + 1, labels=(), target=target)
    table = pd.DataFrame({"scan_id": [f"{i}_T1w" for i in IDS], target: truths})
    table.to_csv(tmp_path / "labels.tsv", sep="\t", index=False)
    (found,) = evaluate([folder], labels=tmp_path / "labels.tsv", out=tmp_path / "out")
    by = {r["metric"]: r["score"] for r in found["rows"]}
    assert by["MAE"] == pytest.approx(1)


def test_a_score_that_is_no_number_is_called_that(tmp_path: Path) -> None:
    scores = scores_of(2)
    scores[4] = np.nan
    folder = told(tmp_path / "a", scores)
    with pytest.raises(VoltaError, match="1 scores are no numbers, the first is that of p04_T1w"):
        evaluate([folder], labels=truth(tmp_path), out=tmp_path / "out")


def test_missing_keys_are_named(tmp_path: Path) -> None:
    folder = told(tmp_path / "a", scores_of(2))
    about = json.loads((folder / "predictions.json").read_text())
    for key in ("model_sha256", "kind"):
        del about[key]
    (folder / "predictions.json").write_text(json.dumps(about))
    with pytest.raises(VoltaError, match=r"predictions\.json lacks kind, model_sha256"):
        evaluate([folder], labels=truth(tmp_path), out=tmp_path / "out")


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
        told(tmp_path / "volume", scores_of(1), arm=arm, fitted=fitted(IDS)),
    ]
    evaluate(folders, labels=truth(tmp_path, values=["", *SEX[1:]]), out=tmp_path / "new")
    page = report([tmp_path / "new"], tmp_path / "page").read_text(encoding="utf-8")
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "models fitted elsewhere, 23 participants" in text
    assert "head and brain volume alone" in text and "good against volume" in text
    assert "dropped.tsv says why" in text and "volume: NOT A TEST: 23 of 23 scans" in text
    assert "cross-validation" not in text and "DeLong ER" in text


def test_an_arm_is_alone_only_in_a_run_that_has_no_other(tmp_path: Path) -> None:
    evaluate([told(tmp_path / "a", scores_of(2))], labels=truth(tmp_path), out=tmp_path / "out")
    run = read_task(tmp_path / "out")
    assert run is not None
    assert "It is the run's one arm: nothing" in alone([run])[0]
    run.config["arms"]["later"] = {"kind": "vit"}
    (said,) = alone([run])
    assert "The run's other arms are not scored yet (later): nothing" in said
