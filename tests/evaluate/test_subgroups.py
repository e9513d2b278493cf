"""Scores by group of people, against loops over the groups."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from volta3d.errors import UsageError
from volta3d.evaluate.evaluate import evaluate
from volta3d.evaluate.subgroups import of_cases, of_predictions, read_groups, subgroup_lines
from volta3d.statistics.scores import Predictions

N = 40
IDS = [f"scan{i:02d}" for i in range(N)]
PEOPLE = np.array([f"p{i // 2:02d}" for i in range(N)])  # two scans each


def table(path: Path, key: str = "scan_id") -> Path:
    rows = {
        key: IDS if key == "scan_id" else PEOPLE,
        "site": ["" if i == 0 else "ab"[i % 3 > 0] for i in range(N)],
        "age": [["12.5", "30", "69.9", "71", "n/a"][i % 5] for i in range(N)],
    }
    pd.DataFrame(rows).to_csv(path, sep="\t", index=False)
    return path


def test_groups_are_sites_and_decades_and_what_is_unknown_is_in_none(tmp_path: Path) -> None:
    groups = read_groups(table(tmp_path / "participants.tsv"))
    assert list(groups) == [
        ("age", "0 to 30"), ("age", "30 to 50"), ("age", "50 to 70"), ("age", "70 and over"),
        ("site", "a"), ("site", "b"),
    ]  # fmt: skip
    assert groups["site", "a"] == {IDS[i] for i in range(3, N, 3)}
    assert groups["age", "70 and over"] == {IDS[i] for i in range(3, N, 5)}
    assert read_groups(tmp_path) == groups  # the cohort's folder
    # people who were scanned at both sites are in neither by their own id
    by_person = read_groups(table(tmp_path / "people.tsv", "participant_id"))
    sites = {p: {"ab"[i % 3 > 0] for i in range(1, N) if PEOPLE[i] == p} for p in set(PEOPLE)}
    assert by_person["site", "b"] == {p for p, own in sites.items() if own == {"b"}}


def test_a_table_without_groups_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("scan_id\tdiagnosis\nscan00\tAD\n")
    with pytest.raises(UsageError, match="site, sex or age"):
        read_groups(tmp_path / "t.tsv")
    with pytest.raises(UsageError, match="--people is for runs"):
        evaluate([tmp_path], reference=tmp_path, people=tmp_path / "t.tsv")


def test_auroc_and_error_of_each_group_against_loops(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth, folds = rng.integers(0, 2, N) * 1.0, np.arange(N) // 2 % 2
    score = rng.random(N) + 0.4 * truth
    predictions = Predictions(truth, np.stack([1 - score, score], 1), folds, truth)
    groups = read_groups(table(tmp_path / "participants.tsv"))
    ids = [(i,) for i in IDS]
    rows = of_predictions(groups, ids, PEOPLE, {"a": [predictions]}, "classification")
    for row in rows:
        inside = [i for i in range(N) if IDS[i] in groups[row["column"], row["group"]]]
        pairs = [
            1.0 if score[i] > score[j] else 0.0
            for i in inside
            for j in inside
            if truth[i] > truth[j] and folds[i] == folds[j]
        ]
        assert row["score"] == pytest.approx(sum(pairs) / len(pairs))
        assert row["low"] <= row["score"] <= row["high"]
        assert (row["scans"], row["subjects"]) == (len(inside), len(set(PEOPLE[inside])))
    age = Predictions(truth * 10, score[:, None], folds, truth)
    (row, *_) = of_predictions(groups, ids, PEOPLE, {"a": [age, age]}, "regression")
    inside = [i for i in range(N) if IDS[i] in groups["age", "0 to 30"]]
    assert row["score"] == pytest.approx(np.mean([abs(10 * truth[i] - score[i]) for i in inside]))


def test_dice_of_each_group_and_no_score_for_few() -> None:
    cases = pd.DataFrame(
        [
            {"arm": arm, "case": f"c{i}", "subject": f"p{i}", "status": "ok", "dice": dice + i / 10}
            for arm, dice in (("a", 0.1), ("b", 0.3))
            for i in range(6)
            for _ in "LR"
        ]
    )
    groups = {("sex", "F"): {f"c{i}" for i in range(5)}, ("sex", "M"): {"p5"}, ("sex", "X"): {"?"}}
    rows = of_cases(groups, {f"c{i}": (f"c{i}", f"p{i}") for i in range(6)}, cases)
    found = {(r["group"], r["arm"]): (r["score"], r["scans"]) for r in rows}
    assert set(found) == {("F", "a"), ("F", "b"), ("M", "a"), ("M", "b")}
    assert found["F", "b"] == (pytest.approx(0.5), 5)
    assert math.isnan(found["M", "a"][0]) and found["M", "a"][1] == 1
    text = "\n".join(subgroup_lines({"subgroups": rows}))
    assert "sex F" in text and "undefined" in text
    assert subgroup_lines({}) == []
