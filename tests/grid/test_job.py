"""Jobs: their names, old and new, and where they leave things."""

from __future__ import annotations

from pathlib import Path

from volta3d.grid.job import Job, jobs_of
from volta3d.statistics.splits import FINAL


def test_the_grid_goes_by_arm_seed_fraction_fold_and_ends_with_the_models() -> None:
    grid = jobs_of(["a", "b"], seeds=2, fractions=[0.5, 1.0], folds=2, final=True)
    assert len(grid) == 2 * 2 * 2 * 2 + 2
    assert [j.id for j in grid[:4]] == [
        "a/seed=0/fraction=0.5/fold=0",
        "a/seed=0/fraction=0.5/fold=1",
        "a/seed=0/fraction=1/fold=0",
        "a/seed=0/fraction=1/fold=1",
    ]
    assert [j.id for j in grid[-2:]] == ["a/final", "b/final"] and grid[-1].fold == FINAL
    assert len({j.id for j in grid}) == len(grid)


def test_each_job_has_a_folder_and_label_maps_of_its_own() -> None:
    grid = jobs_of(["a"], seeds=2, fractions=[0.5, 1.0], folds=2)
    assert len({j.folder(Path("run")) for j in grid}) == len(grid)
    assert {j.predictions for j in grid} == {
        "a", "a.seed1", "a.fraction0.5", "a.fraction0.5.seed1",
    }  # fmt: skip
    # as before there were fractions, so that older run folders are read
    whole = Job("a", 1, 1.0, 0)
    assert whole.folder(Path("run")) == Path("run/arms/a/seed-1/fold-0")
    assert whole.earlier_id == "a/seed=1/fold=0" and Job("a", 1, 0.5, 0).earlier_id == ""


def test_a_record_names_its_job() -> None:
    job = Job("a", 1, 0.25, 3)
    assert Job.of({**job.keys(), "more": 1}) == job
    assert Job.of({"arm": "a", "seed": 1, "fold": 3}) == Job("a", 1, 1.0, 3)
