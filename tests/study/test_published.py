"""A task's table in a publication's form: fold means, published figures, label maps of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from volta3d.config import load_study
from volta3d.config.study import TaskEntry
from volta3d.errors import ConfigError
from volta3d.study.jobs import MAPS
from volta3d.study.plan import plan
from volta3d.study.published import published_form

TASK = TaskEntry(
    kind="classification",
    cohort="aibl",
    target="diagnosis",
    arms={"volta": "volta", "vit": "last:scratch"},
    set={"visits": "first"},
    table="Table II",
    figure="Figure 2",
    published={"volta": {"AUROC": "0.72 ± 0.10"}},
)


def rows(arm: str, folds: list[float]) -> list[dict[str, Any]]:
    metrics = ("AUROC", "sensitivity at Youden", "specificity at Youden")
    mean = sum(folds) / len(folds)
    sd = (sum((f - mean) ** 2 for f in folds) / (len(folds) - 1)) ** 0.5
    return [
        {"arm": arm, "fraction": f, "metric": m, "score": 0.5, "folds": folds, "fold_sd": sd}
        for m in metrics
        for f in (0.2, 1.0)
    ]


def test_classification_is_fold_means_beside_the_published_figures() -> None:
    metrics = {
        "rows": [*rows("volta", [0.6, 0.8]), *rows("vit", [0.5, 0.5])],
        "labels": ["CN", "AD"],
        "positive": "AD",
        "subjects": 12,
        "scans": 12,
        "folds": 2,
    }
    about, table, figure, parts = published_form(TASK, metrics, Path("x"))
    assert "Table II" in about and "one a person: the first visit" in about and "Youden" in about
    assert "| volta | 0.70 ± 0.14 | 0.70 ± 0.14 | 0.70 ± 0.14 | 0.72 ± 0.10 |" in table
    assert "| vit | 0.50 ± 0.00 |" in table
    assert "Figure 2" in figure and "| model | 20 % | 100 % |" in parts


def test_segmentation_is_cases_and_the_label_maps_of_others_are_a_row(tmp_path: Path) -> None:
    task = TaskEntry(
        kind="segmentation",
        cohort="harp",
        arms={"volta": "volta"},
        table="Table III",
        reference="their/aseg",
        holdout=0.2,
    )
    cases = pd.DataFrame(
        [("volta", "1", "L", 0.8, 1.0), ("volta", "1", "R", 0.6, 3.0), ("volta", "2", "L", 0.9, 2)],
        columns=["arm", "case", "structure", "dice", "hd95_mm"],
    ).assign(subject="p", seed=0)
    cases.to_csv(tmp_path / "cases.tsv", sep="\t", index=False)
    (tmp_path / MAPS).mkdir()
    cases.assign(arm="aseg", dice=0.5).to_csv(tmp_path / MAPS / "cases.tsv", sep="\t", index=False)
    about, table = published_form(task, {}, tmp_path)
    assert "hold-out of 20 %" in about
    # cases .7 and .9: mean .8, sd .14; distances 2 and 2
    assert "| volta | 0.80 ± 0.14 | 2.00 ± 0.00 |" in table
    assert "| label maps of `aseg` | 0.50 ± 0.00 | 2.00 ± 0.00 |" in table


def test_a_task_without_a_table_has_none() -> None:
    assert published_form(TASK.model_copy(update={"table": ""}), {}, Path("x")) == []


def test_paper_is_to_the_letter() -> None:
    config = load_study("paper")
    assert list(config.encoders) == ["volta"] and config.excluded_by("volta") == ("harp",)
    sex, diagnosis, hippocampus = (config.tasks[n] for n in ("sex", "diagnosis", "hippocampus"))
    assert sex.fractions == (0.2, 0.4, 0.6, 0.8, 1.0) and sex.threshold == "half"
    assert sex.set["class_weights"] == "none" and diagnosis.set["class_weights"] == "balanced"
    assert diagnosis.set["classes"] == ["CN", "AD"] and diagnosis.set["visits"] == "first"
    assert diagnosis.threshold == "youden" and sex.folds == diagnosis.folds == 5
    for task in (sex, diagnosis):
        assert {
            "volta": "volta",
            "vit": "scratch",
            "swin": "swin",
        }.items() <= task.arms.items()
    assert hippocampus.holdout == 0.2 and set(hippocampus.arms) == {"volta", "unetr", "unet"}
    assert [t.table for t in config.tasks.values()] == ["Table I", "Table II", "Table III"]


def test_a_scale_changes_budgets_and_nothing_else() -> None:
    whole, tiny = load_study("paper"), load_study("paper", scale="tiny")
    for name, task in tiny.tasks.items():
        same = {"cohort", "target", "arms", "fractions", "folds", "holdout", "table", "published"}
        for key in same:
            assert getattr(task, key) == getattr(whole.tasks[name], key), key
        assert whole.tasks[name].set.items() <= task.set.items()
    assert tiny.cohorts_of("volta") == whole.cohorts_of("volta")
    with pytest.raises(ConfigError, match="No such scale"):
        load_study("paper", scale="tinny")


def test_how_a_table_is_printed_makes_no_other_job() -> None:
    def of(**changed: Any) -> str:
        config = load_study("paper")
        tasks = {**config.tasks, "sex": config.tasks["sex"].model_copy(update=changed)}
        jobs = plan(config.model_copy(update={"tasks": tasks}))
        return next(job.hash for job in jobs if job.id == "task/sex")

    assert of() == of(table="1", figure="", published={}, threshold="youden")
    assert of() != of(folds=4)
