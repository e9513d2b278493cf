"""Metrics out of a table of predictions, against loops written from their definitions."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, roc_auc_score

from volta3d.downstream.classification.predictions import PREDICTIONS, write_predictions
from volta3d.errors import UsageError, VoltaError
from volta3d.evaluate.classification.summary_lines import render
from volta3d.evaluate.evaluate import evaluate
from volta3d.files import sha256

ABOUT: dict[str, Any] = {
    "kind": "classification", "target": "sex", "labels": ["F", "M"], "folds": 3,
    "folds_hash": "abc", "dropped": 2, "synthetic": True,
}  # fmt: skip


def table(
    arms: dict[str, float], *, labels: tuple[str, ...] = ("F", "M"), seeds: int = 1, n: int = 36
) -> pd.DataFrame:
    """Predictions of arms with a signal of given strength; subjects have one to two scans."""
    rng = np.random.default_rng(0)
    rows = []
    for arm, strength in arms.items():
        for seed in range(seeds):
            for i in range(n):
                label = i // 3 % len(labels)
                noise = rng.normal(size=len(labels))
                noise[label] += strength
                told = np.exp(noise) / np.exp(noise).sum()
                scores = (
                    {f"score {name}": told[c] for c, name in enumerate(labels)}
                    if len(labels) > 2
                    else {"score": round(float(told[1]), 2)}
                )
                rows.append(
                    {
                        **{"arm": arm, "fraction": 1.0, "seed": seed, "fold": i % 3},
                        **{"scan_id": f"scan{i:02d}", "subject": f"sub{i if i > 5 else i % 3}"},
                        "target": labels[label],
                        **scores,
                        **{"threshold": 0.4, "baseline": math.nan, "epoch": 1},
                    }
                )
    return pd.DataFrame(rows)


def measured(
    folder: Path, rows: pd.DataFrame, **about: Any
) -> tuple[dict[str, Any], dict[tuple[str, str], dict[str, Any]]]:
    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(folder / PREDICTIONS, rows, ABOUT | about)
    (found,) = evaluate([folder])
    return found, {(r["arm"], r["metric"]): r for r in found["rows"]}


def test_X15_every_metric_against_its_definition(tmp_path: Path) -> None:
    rows = table({"a": 1.0})
    _, by = measured(tmp_path, rows)
    positive, score = (rows["target"] == "M").to_numpy(), rows["score"].to_numpy()
    folds = rows["fold"].to_numpy()
    aucs = []
    for fold in range(3):
        p, s = positive[folds == fold], score[folds == fold]
        pairs = list(product(s[p], s[~p]))
        aucs.append(sum(1.0 if x > y else 0.5 if x == y else 0.0 for x, y in pairs) / len(pairs))
    auroc = by["a", "AUROC"]
    # JSON holds ten digits
    assert auroc["folds"] == pytest.approx(aucs, abs=1e-9)
    assert auroc["score"] == pytest.approx(np.mean(aucs), abs=1e-9)
    assert auroc["fold_sd"] == pytest.approx(np.std(aucs, ddof=1), abs=1e-9)
    expected = {
        "AUROC pooled": roc_auc_score(positive, score),
        "sensitivity at .5": (score[positive] >= 0.5).mean(),
        "specificity at .5": (score[~positive] < 0.5).mean(),
        "sensitivity at Youden": (score[positive] >= 0.4).mean(),
        "specificity at Youden": (score[~positive] < 0.4).mean(),
        "balanced accuracy at .5": balanced_accuracy_score(positive, score >= 0.5),
        "balanced accuracy at Youden": balanced_accuracy_score(positive, score >= 0.4),
        "Brier": brier_score_loss(positive, score),
    }
    for name, value in expected.items():
        assert by["a", name]["score"] == pytest.approx(value, abs=1e-9), name
        assert by["a", name]["low"] <= value <= by["a", name]["high"]


def test_sensitivity_and_specificity_are_also_averaged_over_folds(tmp_path: Path) -> None:
    rows = table({"a": 1.0}, n=40)
    found, by = measured(tmp_path, rows)
    for name, wanted, threshold in (
        ("sensitivity at .5", "M", 0.5),
        ("specificity at .5", "F", 0.5),
        ("sensitivity at Youden", "M", 0.4),
        ("specificity at Youden", "F", 0.4),
    ):
        folds = []
        for fold in range(3):
            own = [r for r in rows.to_dict("records") if r["fold"] == fold]
            scores = [r["score"] for r in own if r["target"] == wanted]
            hits = [(s >= threshold) == (wanted == "M") for s in scores]
            folds.append(sum(hits) / len(hits))
        row, mean = by["a", name], sum(folds) / 3
        sd = math.sqrt(sum((f - mean) ** 2 for f in folds) / 2)
        assert (row["fold_mean"], row["fold_sd"]) == pytest.approx((mean, sd))
        assert f"{mean:.3f} ± {sd:.3f}" in render(found)
    means = [by["a", n]["fold_mean"] - by["a", n]["score"] for n in ("AUROC", "sensitivity at .5")]
    assert means[0] == pytest.approx(0) and abs(means[1]) > 1e-6  # folds of unequal sizes
    for row in found["rows"]:
        del row["fold_mean"]  # metrics.json of before
    assert "±" not in render(found)


def test_groups_of_people_are_scored_and_shown(tmp_path: Path) -> None:
    measured(tmp_path, table({"a": 1.0, "b": 0.0}, seeds=2))
    people = pd.DataFrame({"scan_id": [f"scan{i:02d}" for i in range(36)]})
    people["sex"] = ["FM"[i % 2] for i in range(36)]
    people.to_csv(tmp_path / "participants.tsv", sep="\t", index=False)
    (found,) = evaluate([tmp_path], people=tmp_path)
    groups = {(r["group"], r["arm"]): r for r in found["subgroups"]}
    assert set(groups) == {("F", "a"), ("F", "b"), ("M", "a"), ("M", "b")}
    assert groups["F", "a"]["scans"] == 18 and groups["F", "a"]["metric"] == "AUROC"
    assert json.loads((tmp_path / "metrics.json").read_text()) == found
    from volta3d.evaluate.summary_lines import render as render_all

    assert "sex M" in render_all(found)


def test_T6_a_fold_with_one_class_has_no_auroc(tmp_path: Path) -> None:
    rows = table({"a": 1.0})
    rows.loc[rows["fold"] == 0, "target"] = "M"
    found, by = measured(tmp_path, rows)
    auroc = by["a", "AUROC"]
    assert auroc["folds"][0] is None and auroc["folds_undefined"] == 1
    assert auroc["score"] == pytest.approx(np.mean(auroc["folds"][1:]), abs=1e-9)
    assert by["a", "specificity at .5"]["folds"][0] is None
    assert "undefined in 1 folds" in render(found)
    rows["target"] = "M"
    found, by = measured(tmp_path / "one", rows)
    assert by["a", "AUROC"]["score"] is None and by["a", "AUROC"]["low"] is None
    assert "undefined" in render(found)


def test_L12_every_row_names_the_file_it_is_from_and_its_hash(tmp_path: Path) -> None:
    found, _ = measured(tmp_path, table({"a": 1.0, "b": 0.0}))
    digest = sha256(tmp_path / PREDICTIONS)
    for row in [*found["rows"], *found["comparisons"], found]:
        assert row["predictions"] == PREDICTIONS and row["predictions_sha256"] == digest
    assert digest[:12] in render(found)
    assert json.loads((tmp_path / "metrics.json").read_text()) == found


def test_R1_the_same_predictions_give_the_same_metrics_in_another_process(tmp_path: Path) -> None:
    measured(tmp_path, table({"a": 1.0, "b": 0.3}, seeds=2))
    first = (tmp_path / "metrics.json").read_bytes()
    (tmp_path / "metrics.json").unlink()
    code = "import sys; from volta3d.evaluate.evaluate import evaluate; evaluate(sys.argv[1:])"
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / PREDICTIONS)], check=True, cwd=tmp_path
    )
    assert (tmp_path / "metrics.json").read_bytes() == first


def test_arms_are_compared_in_pairs_and_corrected_together(tmp_path: Path) -> None:
    found, by = measured(tmp_path, table({"a": 2.0, "b": 0.0, "c": 1.9}, n=90))
    pairs = {(c["first"], c["second"]): c for c in found["comparisons"]}
    assert list(pairs) == [("a", "b"), ("a", "c"), ("b", "c")]
    apart, alike = pairs["a", "b"], pairs["a", "c"]
    assert apart["p"] < 0.001 and alike["p"] > 0.05 and "DeLong" in apart["test"]
    once = table({"a": 2.0, "b": 0.0}).drop_duplicates(["arm", "subject"])
    assert measured(tmp_path, once)[0]["comparisons"][0]["test"] == "DeLong within folds"
    assert apart["low"] > 0 and alike["low"] <= 0 <= alike["high"]
    gap = by["a", "AUROC"]["score"] - by["b", "AUROC"]["score"]
    assert apart["difference"] == pytest.approx(gap, abs=1e-9)
    gap = by["a", "AUROC pooled"]["score"] - by["b", "AUROC pooled"]["score"]
    assert apart["pooled"]["difference"] == pytest.approx(gap, abs=1e-9)
    assert all(c["p_holm"] >= c["p"] for c in found["comparisons"])


def test_seeds_are_averaged_and_listed(tmp_path: Path) -> None:
    _, by = measured(tmp_path, table({"a": 1.0}, seeds=3))
    for name in ("AUROC", "Brier", "sensitivity at .5"):
        row = by["a", name]
        assert len(row["seeds"]) == 3
        assert row["score"] == pytest.approx(np.mean(row["seeds"]), abs=1e-9)


def test_intervals_are_over_subjects_not_scans(tmp_path: Path) -> None:
    """Each scan five times under one subject: nothing is known better than before."""
    rows = table({"a": 0.7}, n=60)
    rows["subject"] = rows["scan_id"]
    _, once = measured(tmp_path / "once", rows)
    many = pd.concat([rows.assign(scan_id=rows["scan_id"] + f"-{k}") for k in range(5)])
    _, five = measured(tmp_path / "five", many)
    for name in ("AUROC pooled", "Brier"):
        a, b = once["a", name], five["a", name]
        # the same draws of the same subjects
        assert (a["low"], a["high"]) == pytest.approx((b["low"], b["high"]), abs=1e-9)


def test_several_classes_and_numbers(tmp_path: Path) -> None:
    names = ("CN", "MCI", "AD")
    rows = table({"a": 1.5, "b": 0.0}, labels=names, n=90)
    found, by = measured(tmp_path / "three", rows, labels=list(names))
    own = rows[rows["arm"] == "a"]
    scores = own[[f"score {n}" for n in names]].to_numpy()
    truth = np.array([names.index(t) for t in own["target"]])
    wanted = roc_auc_score(truth, scores, multi_class="ovr", average="macro")
    assert by["a", "AUROC pooled"]["score"] == pytest.approx(wanted, abs=1e-9)
    assert by["a", "balanced accuracy"]["score"] == pytest.approx(
        balanced_accuracy_score(truth, scores.argmax(1)), abs=1e-9
    )
    assert found["comparisons"][0]["p"] < 0.05 and "AUROC" in render(found)
    rng = np.random.default_rng(1)
    rows = table({"a": 0.0, "b": 0.0})
    rows["target"] = np.tile(rng.normal(50, 10, 36), 2)
    rows["score"] = rows["target"] + rng.normal(size=72) * np.where(rows["arm"] == "a", 1, 8)
    rows["baseline"] = 50.0
    found, by = measured(tmp_path / "age", rows, labels=[], kind="regression", target="age")
    own = rows[rows["arm"] == "a"]
    error = (own["target"] - own["score"]).to_numpy()
    assert by["a", "MAE"]["score"] == pytest.approx(np.abs(error).mean(), abs=1e-9)
    r2 = 1 - (error**2).sum() / ((own["target"] - 50) ** 2).sum()
    assert by["a", "R2"]["score"] == pytest.approx(r2, abs=1e-9)
    assert found["comparisons"][0]["p"] < 0.001 and "MAE" in render(found)


def test_what_cannot_be_evaluated_is_one_paragraph(tmp_path: Path) -> None:
    for source, words in (
        (tmp_path / "nowhere", "No such run"),
        (tmp_path, "no predictions in this folder"),
    ):
        with pytest.raises(VoltaError, match=words):
            evaluate([source])
    with pytest.raises(UsageError, match="Nothing"):
        evaluate([])
    (tmp_path / "p.parquet").write_bytes(b"no")
    with pytest.raises(VoltaError, match="Not a table of predictions"):
        evaluate([tmp_path / "p.parquet"])
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "p.parquet")
    with pytest.raises(VoltaError, match="Not a table of predictions"):
        evaluate([tmp_path / "p.parquet"])
    rows = table({"a": 1.0, "b": 1.0})
    with pytest.raises(VoltaError, match="same scans"):
        measured(tmp_path / "x", rows.iloc[:-1])
    with pytest.raises(VoltaError, match="no numbers"):
        measured(tmp_path / "x", rows.assign(score=np.nan))
    with pytest.raises(VoltaError, match="none of the classes: X"):
        measured(tmp_path / "x", rows.assign(target="X"))


def test_a_very_small_p_is_told_as_small_and_not_as_nothing(tmp_path: Path) -> None:
    found, _ = measured(tmp_path, table({"a": 9.0, "b": 0.0}, n=600))
    (pair,) = found["comparisons"]
    assert 0 < pair["p"] < 1e-12
    assert 0 < pair["p_holm"] < 1e-12


def test_the_test_is_on_the_difference_that_is_told(tmp_path: Path) -> None:
    """People with one scan or eight: z has the sign of the difference beside it."""
    rng = np.random.default_rng(0)
    for turn in range(20):
        people = np.repeat(np.arange(40), np.where(np.arange(40) % 5 == 0, 8, 1))
        rows = [
            {
                **{"arm": arm, "fraction": 1.0, "seed": 0, "fold": int(p) % 3},
                **{"scan_id": f"s{i:03d}", "subject": f"p{p}", "target": "FM"[p % 2]},
                **{"score": float(rng.uniform()), "threshold": 0.5, "baseline": math.nan},
                "epoch": 1,
            }
            for arm in ("a", "b")
            for i, p in enumerate(people)
        ]
        (pair,) = measured(tmp_path / str(turn), pd.DataFrame(rows))[0]["comparisons"]
        assert np.sign(pair["z"]) == np.sign(pair["difference"])
        assert pair["test"] == "DeLong within folds, scans clustered by subject"


def test_L5_scores_that_chose_are_no_result(tmp_path: Path) -> None:
    file = tmp_path / "inner_predictions.parquet"
    write_predictions(file, table({"a": 1.0}), ABOUT | {"part": "inner"})
    with pytest.raises(VoltaError, match="chosen on, not a result"):
        evaluate([file])
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize("what", ["duplicate", "target", "fold", "subject"])
def test_arms_that_were_not_asked_the_same_are_refused(tmp_path: Path, what: str) -> None:
    rows = table({"a": 1.0, "b": 0.0})
    last = rows.index[-1]
    if what == "duplicate":
        rows = pd.concat([rows, rows[rows["scan_id"] == "scan00"]])
    elif what == "target":
        rows.loc[last, "target"] = "F" if rows.loc[last, "target"] == "M" else "M"
    elif what == "fold":
        rows.loc[last, "fold"] = (rows.loc[last, "fold"] + 1) % 3
    else:
        rows.loc[last, "subject"] = "somebody else"
    with pytest.raises(VoltaError, match="each once, with the same subjects"):
        measured(tmp_path, rows)
