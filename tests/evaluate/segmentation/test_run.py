"""A run of ``segment``, its arms and their repetitions, and Figure 3 of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import write_cohort
from volta3d.downstream.segmentation.labelmap_files import bids_names
from volta3d.errors import UsageError, VoltaError
from volta3d.evaluate.segmentation.arms import arm_names
from volta3d.evaluate.segmentation.outlines import draw_outlines, drawn_cases, surfaces_figure
from volta3d.evaluate.segmentation.score import evaluate_segmentation
from volta3d.evaluate.segmentation.summary import read_cases
from volta3d.evaluate.segmentation.summary_lines import render
from volta3d.grid.job import Job

EDGE, PEOPLE = 20, 6
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
NAMED = "index\tname\n48\tLeft-Hippocampus\n47\tRight-Hippocampus\n"
FILES = bids_names([(f"sub-{n}", "") for n in range(PEOPLE)])


def two(missing: int = 0) -> np.ndarray:
    labels = np.zeros((EDGE,) * 3, np.uint8)
    labels[3:7, 6:14, 6:10], labels[13:17, 6 + missing : 14, 6:10] = 48, 47
    return labels


def save(folder: Path, person: int, labels: np.ndarray) -> None:
    path = folder / FILES[person]
    path.parent.mkdir(parents=True, exist_ok=True)
    (folder / "dseg.tsv").write_text(NAMED)
    nib.save(nib.Nifti1Image(labels, AFFINE), path)


def finished(run: Path, arms: list[str], seeds: int) -> Path:
    """A run folder as ``segment`` leaves it; the arms' label maps are worse one after the other,
    and in each repetition other ones are."""
    config: dict[str, Any] = {"command": "segment", "kind": "segmentation"}
    config |= {"arms": {arm: {"kind": "unet"} for arm in arms}, "settings": {"seeds": seeds}}
    run.mkdir()
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    for person in range(PEOPLE):
        save(run / "reference", person, two())
        for rank, arm in enumerate(arms):
            for seed in range(seeds):
                folder = run / "predictions" / Job(arm, seed, 1.0, 0).predictions
                save(folder, person, two(missing=rank + (person + seed) % 3))
    lines = [f"p_{n}\tsub-{n}\t{FILES[n]}\n" for n in range(PEOPLE)]
    table = "scan_id\tparticipant_id\tfile\n" + "".join(lines)
    (run / "reference" / "scans.tsv").write_text(table)
    return run


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    people = pd.DataFrame(
        {
            "scan_id": [f"p_{n}" for n in range(PEOPLE)],
            "participant_id": [f"sub-{n}" for n in range(PEOPLE)],
            "dataset": "phantom",
        }
    )
    contract = Contract(size=EDGE, spacing=2.0, fit="pad", synthetic=True)
    volumes = [(two() > 0).astype(np.float32) for _ in range(PEOPLE)]
    return write_cohort(
        tmp_path / "cohort", contract, volumes, people, affines=np.stack([AFFINE] * PEOPLE)
    ).path


def test_repetitions_are_no_arms_of_their_own(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", ["u.v2", "b"], seeds=2)
    scored = evaluate_segmentation(run)
    summary = scored.summary
    assert list(summary["results"]) == ["u.v2", "b"] and len(summary["tests"]) == 2
    assert summary["repetitions"] == {"u.v2": 2, "b": 2}
    found = summary["results"]["u.v2"]["Right-Hippocampus"]
    own = scored.cases[scored.cases["structure"] == "Right-Hippocampus"]
    own = own[own["arm"] == "u.v2"]
    assert found["cases"] == PEOPLE and set(own["seed"]) == {0, 1}
    assert found["dice"]["mean"] == pytest.approx(own["dice"].mean())
    table = read_cases(run / "cases.tsv")
    assert list(table.columns[:4]) == ["arm", "seed", "case", "subject"] and len(table) == 48
    assert "averaged case by case: u.v2: 2, b: 2" in render(summary)


def test_groups_of_people_are_found_by_the_run_s_own_table(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", ["u"], seeds=1)
    lines = [f"p_{n}\t{'F' if n < 5 else 'M'}\n" for n in range(PEOPLE)]
    (tmp_path / "people.tsv").write_text("scan_id\tsex\n" + "".join(lines))
    scored = evaluate_segmentation(run, tmp_path / "people.tsv")
    women, men = scored.summary["subgroups"]
    own = scored.cases[scored.cases["subject"].isin([f"sub-{n}" for n in range(5)])]
    assert women["score"] == pytest.approx(own["dice"].mean()) and women["scans"] == 5
    assert women["low"] < women["score"] < women["high"] and men["scans"] == 1


def test_a_dot_in_a_name_is_not_taken_for_a_repetition(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", ["u", "u.seed1"], seeds=1)
    save(run / "predictions" / "another.seed1", 0, two())  # put there by hand
    results = evaluate_segmentation(run).summary["results"]
    assert list(results) == ["u", "u.seed1", "another.seed1"]


def test_a_folder_that_two_arms_wrote_to_is_refused(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", ["u", "u.seed1"], seeds=2)
    with pytest.raises(VoltaError, match="wrote label maps into the same folder"):
        evaluate_segmentation(run)


def test_a_label_map_lost_from_one_repetition_is_listed(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", ["u", "b"], seeds=2)
    (run / "predictions" / "u.seed1" / FILES[0]).write_bytes(b"")
    scored = evaluate_segmentation(run)
    (problem,) = scored.unmatched
    assert (problem["arm"], problem["seed"], problem["case"]) == ("u", 1, "sub-0")
    assert scored.summary["results"]["u"]["Left-Hippocampus"]["unscored"] == 0


@pytest.mark.parametrize("arms", [["1", "2"], ["NA", "01"]])
def test_figure_3_shows_the_first_repetition_of_arms_of_any_name(
    tmp_path: Path, cohort: Path, arms: list[str]
) -> None:
    run = finished(tmp_path / "run", arms, seeds=2)
    scored = evaluate_segmentation(run)
    assert all(path.stat().st_size > 10_000 for path in draw_outlines(run, cohort))
    drawn, synthetic = drawn_cases(run, cohort, whole=True)
    assert synthetic and list(drawn) == ["best", "median", "worst"]
    first = scored.cases[(scored.cases["seed"] == 0) & (scored.cases["arm"] == arms[0])]
    for case in drawn.values():
        assert list(case.arms) == arms
        person = int(case.name.removeprefix("sub-"))
        assert np.array_equal(case.arms[arms[0]] > 0, two(missing=person % 3) > 0)
        mean = first[first["case"] == case.name]["dice"].mean()
        assert case.dice[arms[0]] == pytest.approx(mean)


def test_each_structure_s_surface_is_shown_from_its_own_side(tmp_path: Path, cohort: Path) -> None:
    run = finished(tmp_path / "run", ["a", "b"], seeds=1)
    evaluate_segmentation(run)
    drawn, _ = drawn_cases(run, cohort)
    figure = surfaces_figure(drawn)
    assert len(figure.axes) == 3 * 2 * 3  # cases, structures, reference and two arms
    said = [axis.texts[0].get_text() for axis in figure.axes[::3]]
    assert "Left-Hippocampus, from the left" in said[0]
    assert "Right-Hippocampus, from the right" in said[1]
    worst = [np.asarray(axis.images[0].get_array()) for axis in figure.axes[-6:]]
    left, right = worst[:3], worst[3:]
    assert np.allclose(left[0], left[2])  # the left side of b is the reference's
    assert not np.allclose(right[0], right[2])  # and its right side is not


def test_cases_that_an_arm_lacks_are_not_drawn(tmp_path: Path, cohort: Path) -> None:
    run = finished(tmp_path / "run", ["a", "b"], seeds=1)
    for person in range(PEOPLE - 1):
        (run / "predictions" / "b" / FILES[person]).unlink()
    evaluate_segmentation(run)
    drawn, _ = drawn_cases(run, cohort)
    assert {case.name for case in drawn.values()} == {f"sub-{PEOPLE - 1}"}


def test_folders_get_names_that_tell_them_apart(tmp_path: Path) -> None:
    def named(*folders: str) -> list[str]:
        return list(arm_names([tmp_path / f for f in folders]))

    assert named("a", "b") == ["a", "b"]
    assert named("a/pred", "b/pred") == ["a", "b"]
    assert named("x/1/out", "x/2/out", "x/2/in") == ["1", "2", "in"]
    assert named("x/a/1/out", "x/b/2/out") == ["a/1", "b/2"]
    whole = [str(tmp_path / f) for f in ("pred", "pred/pred", "b/pred", "b")]
    assert named("pred", "pred/pred") == whole[:2]
    assert named("a/pred", "b/pred", "b") == ["a", *whole[2:]]
    with pytest.raises(UsageError, match="twice"):
        named("a", "a")


def test_whose_a_scan_is_comes_from_the_run_s_table(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", ["a"], seeds=1)
    file = run / "reference" / "scans.tsv"
    head, *rows = file.read_text().splitlines()
    assert set(evaluate_segmentation(run).cases["subject"]) == {f"sub-{n}" for n in range(PEOPLE)}
    told = [f"{row}\tother:sub-{n // 2}" for n, row in enumerate(rows)]
    file.write_text("\n".join([f"{head}\tsubject", *told]) + "\n")
    scored = evaluate_segmentation(run)
    assert set(scored.cases["subject"]) == {f"other:sub-{n}" for n in range(PEOPLE // 2)}
    assert scored.summary["results"]["a"]["Left-Hippocampus"]["subjects"] == PEOPLE // 2
