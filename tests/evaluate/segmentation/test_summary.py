"""Cases to means and tests: pairs are of the same cases, repetitions are no rivals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from volta3d.evaluate.segmentation.summary import ALL, ranked_cases, read_cases, summarise
from volta3d.evaluate.segmentation.summary_lines import render
from volta3d.report.tables_tasks import segmentation_table
from volta3d.report.task_run import TaskRun
from volta3d.statistics.holm import holm


def row(arm: str, case: str, dice: float, **more: Any) -> dict[str, Any]:
    return {
        "arm": arm, "case": case, "subject": case.split("_")[0], "structure": "left",
        "status": "ok", "dice": dice, "hd95_mm": 3 * (1 - dice), "msd_mm": 1 - dice,
        "reference_mm3": 100.0, "mm3": 100.0, **more,
    }  # fmt: skip


def test_pairs_are_of_the_cases_that_both_arms_have() -> None:
    """The second arm lacks everybody's harder scan: where both have one they are equal."""
    rows = []
    for person in range(8):
        for session, dice in ((1, 0.9), (2, 0.5)):
            for arm in ("x", "y"):
                if (arm, session) != ("y", 2):
                    rows.append(row(arm, f"s{person}_{session}", dice + 0.001 * person))
    for test in summarise(pd.DataFrame(rows))["tests"]:
        assert (test["cases"], test["n"]) == (8, 8)
        assert (test["difference"], test["low"], test["high"], test["p"]) == (0, 0, 0, 1)


def test_an_undefined_distance_leaves_out_its_case_in_both_arms() -> None:
    rows = []
    for person in range(6):
        for session, dice in ((1, 0.9), (2, 0.5)):
            rows.append(row("x", f"s{person}_{session}", dice))
            missed = {"status": "missed", "dice": 0.0, "hd95_mm": np.nan, "msd_mm": np.nan}
            lost = missed if session == 2 else {}
            rows.append({**row("y", f"s{person}_{session}", dice), **lost})
    dice, distance = summarise(pd.DataFrame(rows))["tests"]
    assert (dice["cases"], dice["difference"]) == (12, pytest.approx(0.25))
    assert (distance["cases"], distance["difference"]) == (6, 0)


def test_repetitions_are_averaged_case_by_case() -> None:
    draws, rows = np.random.default_rng(3), []
    for seed in range(2):
        for person in range(10):
            for arm, level in (("a", 0.8), ("b", 0.7)):
                for structure in ("left", "right"):
                    dice = level + 0.05 * draws.normal()
                    more = {"seed": seed, "structure": structure, "mm3": 90.0 + 20 * seed}
                    rows.append(row(arm, f"s{person}", dice, **more))
    cases = pd.DataFrame(rows)
    summary = summarise(cases)
    assert summary["repetitions"] == {"a": 2, "b": 2} and list(summary["results"]) == ["a", "b"]
    left = summary["results"]["a"]["left"]
    own = cases[(cases["arm"] == "a") & (cases["structure"] == "left")]
    assert left["cases"] == 10 and left["dice"]["mean"] == pytest.approx(own["dice"].mean())
    # ten too much and ten too little don't make a volume that is right
    for name in ("left", ALL):
        found = summary["results"]["a"][name]
        assert found["absolute_error_percent"]["mean"] == pytest.approx(10)
        assert found["error_mm3"]["mean"] == pytest.approx(0)
    assert [(t["metric"], t["n"]) for t in summary["tests"]] == [("dice", 10), ("hd95_mm", 10)]
    by_case = cases.groupby(["arm", "case"])["dice"].mean()
    expected = wilcoxon(by_case["a"].to_numpy() - by_case["b"].to_numpy()).pvalue
    assert summary["tests"][0]["p"] == pytest.approx(expected)


def test_a_structure_missed_by_one_repetition_is_counted() -> None:
    rows = [row("a", f"s{n}", 0.8, seed=seed) for seed in range(2) for n in range(3)]
    rows[0] |= {"status": "missed", "dice": 0.0, "hd95_mm": np.nan, "msd_mm": np.nan}
    found = summarise(pd.DataFrame(rows))["results"]["a"]["left"]
    assert (found["missed"], found["hd95_mm"]["n"], found["cases"]) == (1, 2, 3)
    assert found["dice"]["mean"] == pytest.approx((0.4 + 0.8 + 0.8) / 3)


def test_each_structure_is_tested_too_with_a_family_for_each_metric() -> None:
    draws, rows = np.random.default_rng(1), []
    for person in range(12):
        for arm, gain in (("a", 0.05), ("b", 0.0), ("c", -0.02)):
            for structure in ("left", "right"):
                worse = gain if structure == "left" else 0.0
                dice = 0.7 + worse + 0.02 * draws.normal()
                rows.append(row(arm, f"s{person}", dice, structure=structure))
    cases = pd.DataFrame(rows)
    summary = summarise(cases)
    tests = summary["structure_tests"]
    assert len(tests) == 12 and len(summary["tests"]) == 6
    for metric in ("dice", "hd95_mm"):
        family = [t for t in tests if t["metric"] == metric]
        assert [t["p_holm"] for t in family] == holm([t["p"] for t in family])
    wide = cases[cases["structure"] == "left"].pivot(index="case", columns="arm", values="dice")
    first = tests[0]
    assert (first["structure"], first["first"], first["second"]) == ("left", "a", "b")
    assert first["p"] == pytest.approx(wilcoxon(wide["a"], wide["b"]).pvalue)
    assert first["difference"] == pytest.approx((wide["a"] - wide["b"]).mean())
    text = render({"kind": "segmentation", **summary, "not_scored": []})
    lines = text[text.index("The same for each structure") :].splitlines()
    assert len(lines) == 2 + 6 and max(len(line) for line in lines) < 140
    assert [line.split()[:4] for line in lines[2:4]] == [
        ["left", "a", "-", "b"],
        ["left", "a", "-", "c"],
    ]


def test_a_single_structure_is_not_tested_twice() -> None:
    rows = [row(arm, f"s{n}", 0.8) for arm in "ab" for n in range(6)]
    summary = summarise(pd.DataFrame(rows))
    assert summary["structure_tests"] == []
    assert "each structure" not in render({**summary, "not_scored": []})


def test_expected_cases_without_a_score_are_counted() -> None:
    rows = [row("a", f"s{n}", 0.8) for n in range(4)] + [row("b", "s0", 0.9)]
    results = summarise(pd.DataFrame(rows))["results"]
    assert (results["a"][ALL]["unscored"], results["b"][ALL]["unscored"]) == (0, 3)
    results = summarise(pd.DataFrame(rows), expected=[f"s{n}" for n in range(10)])["results"]
    assert (results["a"]["left"]["unscored"], results["b"][ALL]["unscored"]) == (6, 9)


def test_names_stay_text_in_the_table(tmp_path: Path) -> None:
    rows = [row("1", "001", 0.8), row("NA", "001", np.nan, status="absent")]
    pd.DataFrame(rows).to_csv(tmp_path / "cases.tsv", sep="\t", index=False)
    table = read_cases(tmp_path / "cases.tsv")
    assert list(table["arm"]) == ["1", "NA"] and list(table["case"]) == ["001", "001"]
    assert np.isnan(table["dice"].iloc[1]) and set(table["seed"]) == {0}
    assert ranked_cases(table, ["1"]) == ["001"]


def test_only_cases_of_every_arm_are_ranked() -> None:
    rows = [row("a", f"s{n}", 0.5 + n / 10) for n in range(4)]
    rows += [row("b", f"s{n}", 0.5) for n in range(1, 4)]
    assert ranked_cases(pd.DataFrame(rows), ["a", "b"]) == ["s3", "s2", "s1"]


def tumours(kinds: dict[str, int]) -> dict[str, Any]:
    """A summary of one arm with so many cases of each status."""
    empty = {"hd95_mm": np.nan, "msd_mm": np.nan}
    of = {
        "ok": {"dice": 0.8, "mm3": 90.0},
        "missed": {"dice": 0.0, "mm3": 0.0, **empty},
        "invented": {"dice": 0.0, "reference_mm3": 0.0, "mm3": 5.0, **empty},
        "absent": {"dice": np.nan, "reference_mm3": 0.0, "mm3": 0.0, **empty},
    }
    statuses = [status for status, n in kinds.items() for _ in range(n)]
    rows = [
        row("a", f"s{n}", 0.0) | {"status": status} | of[status]
        for n, status in enumerate(statuses)
    ]
    return {**summarise(pd.DataFrame(rows)), "not_scored": []}


def test_cases_without_a_dice_are_told_where_a_structure_may_be_absent(tmp_path: Path) -> None:
    summary = tumours({"ok": 5, "missed": 1, "invented": 2, "absent": 12})
    head, line, *_ = render(summary).splitlines()[1:]
    assert " ".join(head.split()[-7:]) == "missed invented absent n n of Dice"
    assert line.split()[-5:] == ["1", "2", "12", "20", "8"]
    table = segmentation_table(TaskRun(tmp_path, "segmentation", metrics=summary))
    assert table.head[-6:] == ("Missed", "Invented", "Absent", "No map", "Cases", "With Dice")
    assert table.rows[0][-6:] == ("1", "2", "12", "0", "20", "8")
    assert "absent" in table.caption and "invented" in table.caption


def test_without_absent_structures_the_tables_are_as_ever(tmp_path: Path) -> None:
    summary = tumours({"ok": 5, "missed": 1})
    head, line, *_ = render(summary).splitlines()[1:]
    assert head.split()[-3:] == ["r", "missed", "n"] and line.split()[-2:] == ["1", "6"]
    table = segmentation_table(TaskRun(tmp_path, "segmentation", metrics=summary))
    assert table.head[-4:] == ("Missed", "Invented", "No map", "Cases")
    assert "absent" not in table.caption
