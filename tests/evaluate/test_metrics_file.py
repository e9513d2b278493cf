"""metrics.json: one schema for all tasks, and files of before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from volta3d.errors import VoltaError
from volta3d.evaluate.metrics_file import (
    ALL_STRUCTURES,
    FORMAT,
    parse_metrics,
    read_metrics_file,
    segmentation_rows,
    write_metrics_file,
)

ROW: dict[str, Any] = {
    "arm": "volta", "fraction": 1.0, "metric": "AUROC", "score": 0.8, "low": 0.7, "high": None,
    "folds": [0.75, None, 0.85], "fold_sd": 0.07, "folds_undefined": 1, "seeds": [0.8],
    "scans": 30, "subjects": 28,
}  # fmt: skip
PAIR: dict[str, Any] = {
    "fraction": 1.0, "first": "volta", "second": "scratch", "metric": "AUROC", "test": "DeLong",
    "difference": 0.1, "low": -0.1, "high": 0.3, "p": 0.2, "p_holm": 0.4,
}  # fmt: skip
OLD: dict[str, Any] = {"format": 1, "kind": "classification", "rows": [ROW], "comparisons": [PAIR]}


def of_structures() -> dict[str, Any]:
    """A segmentation's metrics.json as builds before format 2 wrote it."""
    interval = {"mean": 0.9, "low": 0.8, "high": 0.95, "n": 6}
    unknown = {"mean": None, "low": None, "high": None, "n": 0}
    own = {"cases": 7, "subjects": 6, "dice": interval, "hd95_mm": unknown, "missed": 1}
    test = {"first": "a", "second": "b", "metric": "dice", "n": 6, "difference": 0.1, "low": 0.0}
    test |= {"high": 0.2, "p": None, "p_holm": None}
    return {
        "kind": "segmentation",
        "synthetic": True,
        "results": {arm: {"left": own, ALL_STRUCTURES: own} for arm in ("a", "b")},
        "tests": [test],
        "structure_tests": [{**test, "structure": "left", "metric": "hd95_mm"}],
    }


def test_a_classification_of_before_has_its_fold_means_made() -> None:
    found = parse_metrics(OLD)
    assert found.main == "AUROC" and found.arms == ["volta"] and not found.synthetic
    (row,) = found.rows
    assert row.fold_mean == pytest.approx(0.8) and (row.high, row.structure) == (None, "")
    assert found.comparisons[0].p_holm == 0.4


def test_a_segmentation_of_before_has_the_same_rows_as_one_of_now() -> None:
    old = of_structures()
    found = parse_metrics(old)
    again = parse_metrics({**old, **segmentation_rows(old), "results": {}, "tests": []})
    assert found.rows == again.rows and found.comparisons == again.comparisons
    assert (found.main, found.arms, found.synthetic) == ("Dice", ["a", "b"], True)
    assert found.main_rows()["b"].structure == ALL_STRUCTURES
    assert {(r.metric, r.scans, r.score) for r in found.rows} == {
        ("Dice", 6, 0.9), ("HD95 (mm)", 0, None),
    }  # fmt: skip
    assert [(c.structure, c.metric) for c in found.comparisons] == [
        (ALL_STRUCTURES, "Dice"), ("left", "HD95 (mm)"),
    ]  # fmt: skip


def test_the_main_score_is_that_of_the_whole_training_part() -> None:
    half = {**ROW, "fraction": 0.5, "score": 0.6}
    for rows in ([ROW, half], [half, ROW]):
        assert parse_metrics({**OLD, "rows": rows}).main_rows()["volta"].score == 0.8


def test_what_is_written_is_read(tmp_path: Path) -> None:
    content = {**OLD, "format": FORMAT, "target": "sex"}
    write_metrics_file(tmp_path, content)
    found = read_metrics_file(tmp_path)
    assert found == read_metrics_file(tmp_path / "metrics.json") == parse_metrics(content)
    assert found.content["target"] == "sex"
    with pytest.raises(KeyError, match="comparisons"):
        write_metrics_file(tmp_path, {"kind": "regression", "rows": []})


@pytest.mark.parametrize(
    "content",
    [[], {}, {"kind": "poem"}, {**OLD, "format": FORMAT + 1}, {**OLD, "rows": [{"arm": "a"}]}],
)
def test_another_file_is_refused_in_one_paragraph(tmp_path: Path, content: object) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(VoltaError, match=r"Not a file of metrics.*Run volta3d evaluate again"):
        read_metrics_file(tmp_path)
