"""A segmentation's metrics.json on a study's page."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from volta3d.evaluate.segmentation.summary import summarise
from volta3d.study.tables import segmentation


def metrics(seeds: int = 1, lost: int = 0) -> dict[str, Any]:
    draws, rows = np.random.default_rng(0), []
    for person in range(8):
        for arm in ("a", "b"):
            for structure in ("left", "right"):
                for seed in range(seeds):
                    dice = float(draws.uniform(0.7, 0.9))
                    row = {"arm": arm, "seed": seed, "case": f"s{person}", "subject": f"s{person}"}
                    row |= {"structure": structure, "status": "ok", "dice": dice}
                    row |= {"hd95_mm": 1 / dice, "msd_mm": 1 - dice}
                    rows.append({**row, "reference_mm3": 100.0 + person, "mm3": 100.0 + dice})
    table = pd.DataFrame(rows)
    return summarise(table[(table["arm"] == "a") | (table["case"] >= f"s{lost}")])


def test_the_mean_and_each_structure_are_tested() -> None:
    page = segmentation(metrics())
    assert "| metric | arms | mean difference | subjects |" in page[1]
    assert page[2] == "For each structure, Holm over all rows of a metric:"
    assert "| structure | metric | arms |" in page[3] and page[3].count("a - b") == 4
    assert "unscored" not in page[0] and len(page) == 4


def test_repetitions_and_cases_without_a_score_are_said() -> None:
    page = segmentation(metrics(seeds=2, lost=3))
    assert page[0] == "Repetitions, averaged case by case: a: 2, b: 2."
    assert "| cases | unscored | missed |" in page[1]
    assert "| b | left | 5 | 3 | 0 |" in page[1] and "| a | left | 8 | 0 | 0 |" in page[1]


def test_findings_are_on_the_page() -> None:
    finding = {"arm": "b", "structure": "left", "what": "'left' is in none", "how_to_fix": "Look"}
    assert (
        segmentation({**metrics(), "findings": [finding]})[-1] == "Noticed: b: 'left' is in none."
    )


def test_metrics_of_an_older_version_make_the_page_that_they_made() -> None:
    old = metrics()
    for name in ("structure_tests", "repetitions"):
        del old[name]
    for structures in old["results"].values():
        for found in structures.values():
            del found["unscored"]
    page = segmentation(old)
    assert len(page) == 2 and "| arm | structure | cases | missed | Dice |" in page[0]
