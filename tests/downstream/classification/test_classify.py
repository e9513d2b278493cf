"""The grid: what it writes, what it refuses, and that it can be killed anywhere."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from volta3d.arms.classifier import NetworkArm, resolve
from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort, write_cohort
from volta3d.config import ClassifyConfig, load_classify
from volta3d.downstream.classification.classify import ClassifyResult, classify, make_splits
from volta3d.downstream.classification.crossfit import groups_of
from volta3d.downstream.classification.fitted import load_fitted
from volta3d.downstream.classification.fold_runner import ClassifyRunner
from volta3d.downstream.classification.labels import read_labels
from volta3d.downstream.classification.predictions import read_predictions
from volta3d.downstream.classification.selection import youden_threshold
from volta3d.errors import CheckpointError, CohortError, EncoderError, UsageError
from volta3d.grid.job import Job
from volta3d.ledger import Ledger
from volta3d.statistics.splits import read_splits

QUICK = ["epochs=2", "folds=3", "lr=1e-3", "precision=fp32", "device=cpu"]


def quick(*settings: str) -> ClassifyConfig:
    return load_classify("small", [*QUICK, *settings])


@pytest.fixture
def arms(encoder_folder: Path) -> list[str]:
    return [f"volta={encoder_folder}", "vit=scratch", f"lin=linear:{encoder_folder}", "vol=volume"]


def run(cohort: Cohort, arms: list[str], out: Path, *settings: str, **more: Any) -> ClassifyResult:
    return classify(cohort.path, more.pop("target", "sex"), arms, out, quick(*settings), **more)


def test_the_run_folder_is_what_the_design_says(
    signal_cohort: Cohort, arms: list[str], tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    result = run(
        signal_cohort, arms, tmp_path / "run",
        progress=lambda done, total, _: seen.append((done, total)),
    )  # fmt: skip
    found = {p.relative_to(result.run).as_posix() for p in result.run.rglob("*") if p.is_file()}
    found = {p for p in found if not p.startswith(("jobs/", "features/"))}
    model = {"MODEL_CARD.md", "config.json", "model.safetensors"}
    assert found == {
        "config.yaml", "folds.json", "predictions.parquet", "inner_predictions.parquet",
        *(f"arms/{a}/metrics.jsonl" for a in result.models),
        *(f"arms/{a}/weights/fold-{k}.safetensors" for a in result.models for k in range(3)),
        *(f"arms/{a}/model/{m}" for a in result.models for m in model),
    }  # fmt: skip
    assert (result.scans, result.subjects, result.left, result.dropped) == (30, 30, 0, ())
    assert seen[-1] == (2 * 16, 2 * 16) and seen == sorted(seen)  # 4 arms of 3 folds and a model
    content = yaml.safe_load((result.run / "config.yaml").read_text())
    assert content["settings"]["epochs"] == 2 and list(content["arms"]) == list(result.models)
    lines = (result.run / "arms/volta/metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2 * 4 and {"loss", "inner_loss", "fold"} <= set(json.loads(lines[0]))
    text = (result.run / "folds.json").read_text() + (result.run / "config.yaml").read_text()
    assert str(tmp_path) not in text  # nothing says where things lay


def test_L5_L9_what_is_chosen_is_chosen_on_others_than_are_reported(
    signal_cohort: Cohort, arms: list[str], tmp_path: Path
) -> None:
    result = run(signal_cohort, arms, tmp_path / "run", "fractions=[0.5, 1.0]", "seeds=2")
    told, about = read_predictions(result.run / "predictions.parquet")
    inner, _ = read_predictions(result.run / "inner_predictions.parquet")
    splits = read_splits(result.run / "folds.json")
    assert about["folds_hash"] == splits.hash
    keys = ["arm", "fraction", "seed", "fold"]
    for key, rows in told.groupby(keys):
        own = inner[(inner[keys] == pd.Series(key, keys)).all(axis=1)]
        part = splits.part(int(key[3]), fraction=float(key[1]), seed=int(key[2]))
        assert set(rows["subject"]) == set(part.test)
        assert set(own["subject"]) == set(part.inner)
        assert not {*part.train, *part.inner} & set(part.test)
        threshold = youden_threshold((own["target"] == "M").to_numpy(), own["score"].to_numpy())
        assert rows["threshold"].iloc[0] == pytest.approx(threshold, nan_ok=True)


def test_a_linear_model_on_an_untrained_encoder_stands_beside_one_on_the_trained(
    signal_cohort: Cohort, encoder_folder: Path, tmp_path: Path
) -> None:
    arms = [f"lin=linear:{encoder_folder}", "random=linear:scratch", "ice=frozen:scratch"]
    result = run(signal_cohort, arms, tmp_path / "run")
    declared = yaml.safe_load((result.run / "config.yaml").read_text())["arms"]
    ours, random = declared["lin"], declared["random"]
    assert ours["encoder_sha256"] and not random["encoder_sha256"]
    for shared in ("kind", "tune", "model", "image_size", "downsample", "head"):
        assert ours[shared] == random[shared]
    assert declared["ice"]["head"] == ours["head"]  # frozen features are standardised for both
    told, _ = read_predictions(result.run / "predictions.parquet")
    scores = {arm: rows.set_index("scan_id")["score"] for arm, rows in told.groupby("arm")}
    assert (scores["lin"] != scores["random"]).any()
    fitted = load_fitted(result.models["random"])
    assert fitted.network is not None and fitted.line is not None


def test_L10_every_fraction_and_seed_is_tested_on_the_same_folds(
    signal_cohort: Cohort, arms: list[str], tmp_path: Path
) -> None:
    result = run(signal_cohort, arms[2:], tmp_path / "run", "fractions=[0.4, 0.7, 1.0]", "seeds=2")
    told, _ = read_predictions(result.run / "predictions.parquet")
    where = told.groupby("scan_id")["fold"].nunique()
    assert (where == 1).all() and len(told) == 2 * 3 * 2 * 30
    subsets = {}
    for path in (result.run / "jobs").glob("lin-seed=0-*fold=0*.json"):
        record = json.loads(path.read_text())["record"]
        subsets[record["fraction"]] = record["sizes"]
    assert subsets[0.4]["train"] < subsets[0.7]["train"] < subsets[1.0]["train"]
    assert len({s["test"] for s in subsets.values()}) == 1


def test_L11_arms_differ_in_what_is_declared_alone(
    signal_cohort: Cohort, arms: list[str], tmp_path: Path
) -> None:
    result = run(signal_cohort, arms, tmp_path / "run")
    records = [json.loads(p.read_text())["record"] for p in (result.run / "jobs").glob("*.json")]
    for fold in (-1, 0, 1, 2):
        own = [r for r in records if r["fold"] == fold]
        assert len(own) == 4
        for shared in ("split", "seed", "fraction", "sizes"):
            assert len({json.dumps(r[shared]) for r in own}) == 1, shared
        assert len({json.dumps(r["test"]["scan_id"]) for r in own}) == 1
    arms_of = yaml.safe_load((result.run / "config.yaml").read_text())["arms"]
    differ = {k for k in arms_of["volta"] if arms_of["volta"][k] != arms_of["vit"][k]}
    assert differ == {"encoder_sha256", "pretraining_saw"}


def test_L4_poisoned_test_labels_change_nothing_before_evaluation(
    signal_cohort: Cohort, arms: list[str], tmp_path: Path
) -> None:
    config = quick()
    labelled = read_labels(signal_cohort, "sex", config)
    splits = make_splits(labelled, signal_cohort, config)
    poisoned = labelled.values.copy()
    test = labelled.where(splits.part(0).test)
    poisoned[test] = 1 - poisoned[test]
    chosen = {c.name: c for c in resolve(arms, signal_cohort, config, labelled.rows)}
    records = []
    for name, values in (("clean", labelled.values), ("poisoned", poisoned)):
        runner = ClassifyRunner(
            signal_cohort, replace(labelled, values=values), splits, chosen, config,
            tmp_path / name, device=torch.device("cpu"), bf16=False,
        )  # fmt: skip
        records.append([runner.do(Job(arm, 0, 1.0, 0)) for arm in chosen])
    for clean, dirty in zip(*records, strict=True):
        assert {**clean, "seconds": 0} == {**dirty, "seconds": 0}


@pytest.mark.parametrize("preset", ["paper", "small"])
def test_pretrained_and_scratch_differ_in_their_first_weights_alone(
    signal_cohort: Cohort, encoder_folder: Path, preset: str
) -> None:
    rows = np.arange(30)
    for tune in ("", "last:", "frozen:", "full:"):
        texts = [f"volta={tune}{encoder_folder}", f"vit={tune}scratch"]
        config = load_classify(preset)
        ours, theirs = resolve(texts, signal_cohort, config, rows)
        assert isinstance(ours, NetworkArm) and isinstance(theirs, NetworkArm)
        one, other = ours.declared(), theirs.declared()
        differ = {k for k in one if one[k] != other[k]}
        assert differ == {"encoder_sha256", "pretraining_saw"}
        networks = [arm.network(config, 2, seed=5) for arm in (ours, theirs)]
        trained = [{n for n, p in net.named_parameters() if p.requires_grad} for net in networks]
        assert trained[0] == trained[1] and networks[0].tune == networks[1].tune
        heads = [net.head.state_dict() for net in networks]
        assert all(torch.equal(heads[0][k], heads[1][k]) for k in heads[0])


def test_the_whole_training_part_is_fitted_and_thresholds_come_from_inside_it(
    signal_cohort: Cohort, arms: list[str], tmp_path: Path
) -> None:
    settings = ("epoch=last", "fractions=[0.5, 1.0]", "final_model=false")
    result = run(signal_cohort, arms[:3], tmp_path / "run", *settings)
    table, _ = read_predictions(result.run / "predictions.parquet")
    inside, _ = read_predictions(result.run / "inner_predictions.parquet")
    splits = read_splits(result.run / "folds.json")
    for (arm, fold), rows in inside.groupby(["arm", "fold"]):
        part = splits.part(int(fold))
        assert set(rows["subject"]) == {*part.train, *part.inner} and (rows["fraction"] == 1).all()
        threshold = youden_threshold((rows["target"] == "M").to_numpy(), rows["score"].to_numpy())
        own = table[(table["arm"] == arm) & (table["fold"] == fold) & (table["fraction"] == 1)]
        assert own["threshold"].iloc[0] == pytest.approx(threshold)
        assert not set(own["subject"]) & set(rows["subject"])
    records = [json.loads(p.read_text())["record"] for p in (result.run / "jobs").glob("*.json")]
    # fractions are of the whole training part: 20 of 30 people, and 10 of these
    assert {r["fraction"]: r["sizes"]["train"] for r in records} == {0.5: 10, 1.0: 20}
    assert all(r["sizes"]["inner"] == 0 for r in records)


@pytest.mark.parametrize("place", [0, 2])
def test_L5_a_threshold_s_scores_come_from_fits_that_have_not_seen_the_person(
    signal_cohort: Cohort, arms: list[str], tmp_path: Path, place: int
) -> None:
    """With another label of their own, the people of a group are scored as before."""
    config = quick("epoch=last")
    labelled = read_labels(signal_cohort, "sex", config)
    splits = make_splits(labelled, signal_cohort, config)
    (arm,) = resolve(arms[place : place + 1], signal_cohort, config, labelled.rows)

    def scores(values: np.ndarray) -> np.ndarray:
        runner = ClassifyRunner(
            signal_cohort, replace(labelled, values=values), splits, {arm.name: arm}, config,
            tmp_path / "x", device=torch.device("cpu"), bf16=False,
        )  # fmt: skip
        record = runner.do(Job(arm.name, 0, 1.0, 0))
        return np.array(record["inner"]["scores"])

    part = splits.part(0)
    train = labelled.where((*part.train, *part.inner))
    names = [labelled.subjects[i] for i in train]
    groups = groups_of(names, splits, fold=0, seed=0, groups=config.threshold_folds)
    assert np.bincount(groups).tolist() == [7, 7, 6]
    values = labelled.values.copy()
    values[train[groups == 1]] = 1 - values[train[groups == 1]]
    before, after = scores(labelled.values), scores(values)
    assert np.array_equal(before[groups == 1], after[groups == 1])
    assert (before[groups != 1] != after[groups != 1]).any()


CHILD = """
import sys
from pathlib import Path
from volta3d.config import load_classify
from volta3d.downstream.classification.classify import classify
cohort, out, *rest = sys.argv[1:]
arms = [a for a in rest if "=" in a and not a.startswith("set:")]
settings = [a[4:] for a in rest if a.startswith("set:")]
classify(cohort, "sex", arms, out, load_classify("small", settings), resume=True)
"""


def child(cohort: Cohort, arms: list[str], out: Path, *settings: str) -> list[str]:
    options = [f"set:{s}" for s in (*QUICK, *settings)]
    return [sys.executable, "-c", CHILD, str(cohort.path), str(out), *arms, *options]


def test_R2_F1_killed_anywhere_and_resumed_it_ends_as_if_nothing_had_happened(
    signal_cohort: Cohort, arms: list[str], tmp_path: Path
) -> None:
    """kill -9 in the middle of the grid, then to the end: the same predictions, bitwise."""
    settings = ("epochs=12", "fractions=[0.5, 1.0]", "augment.enabled=true")
    whole = run(signal_cohort, arms[:3], tmp_path / "whole", *settings)
    out = tmp_path / "killed"
    # one thread, as in this process: sums split over threads differ in their last bits
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(child(signal_cohort, arms[:3], out, *settings), env=alone)
    deadline = time.monotonic() + 120
    while len(list((out / "jobs").glob("*.json"))) < 4 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "predictions.parquet").exists()
    before = {p.name: p.stat().st_mtime_ns for p in (out / "jobs").glob("*.json")}
    run(signal_cohort, arms[:3], out, *settings, resume=True)
    after = {p.name: p.stat().st_mtime_ns for p in (out / "jobs").glob("*.json")}
    assert all(after[name] == t for name, t in before.items())  # nothing was done twice
    for name in ("predictions.parquet", "inner_predictions.parquet"):
        pd.testing.assert_frame_equal(
            read_predictions(whole.run / name)[0], read_predictions(out / name)[0], check_exact=True
        )
    for name in ("folds.json", *(f"arms/{a}/model/model.safetensors" for a in ("volta", "lin"))):
        assert (whole.run / name).read_bytes() == (out / name).read_bytes(), name


def test_a_job_that_another_process_is_doing_is_left_to_it(
    signal_cohort: Cohort, arms: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with Ledger(out / "jobs").claim("lin/seed=0/fraction=1/fold=1") as mine:
        assert mine
        result = run(signal_cohort, arms[2:], out)
    assert result.left == 1 and not (out / "predictions.parquet").exists()
    assert run(signal_cohort, arms[2:], out, resume=True).left == 0
    told, _ = read_predictions(out / "predictions.parquet")
    assert len(told) == 2 * 30


def test_R10_another_experiment_in_the_folder_is_refused_with_a_diff(
    signal_cohort: Cohort, arms: list[str], encoder_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run(signal_cohort, arms[2:], out)
    before = (out / "config.yaml").read_bytes()
    with pytest.raises(UsageError, match="--resume"):
        run(signal_cohort, arms[2:], out)
    for settings, words in (
        (("lr=0.5",), r"lr: 0\.001 -> 0\.5"),
        (("seed=1",), "folds_hash"),
        (("augment.flip=0",), "augment"),
    ):
        with pytest.raises(CheckpointError, match=words):
            run(signal_cohort, arms[2:], out, *settings, resume=True)
    with pytest.raises(CheckpointError, match="target"):
        run(signal_cohort, arms[2:], out, target="diagnosis", resume=True)
    with pytest.raises(CheckpointError, match="arm lin: kind"):
        run(signal_cohort, [f"lin={encoder_folder}"], out, resume=True)
    assert (out / "config.yaml").read_bytes() == before


def test_arms_fractions_and_seeds_may_be_added_later(
    signal_cohort: Cohort, arms: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run(signal_cohort, arms[3:], out)
    run(signal_cohort, arms[2:3], out, "seeds=2", "fractions=[0.5, 1.0]", resume=True)
    told, _ = read_predictions(out / "predictions.parquet")
    assert told.groupby("arm").size().to_dict() == {"vol": 30, "lin": 120}
    splits = read_splits(out / "folds.json")
    run(signal_cohort, arms[3:], out, resume=True)  # an earlier, smaller call again
    assert read_splits(out / "folds.json") == splits
    assert len(read_predictions(out / "predictions.parquet")[0]) == 150


def test_what_a_stopped_call_left_unfinished_is_named_and_not_scored(
    signal_cohort: Cohort, arms: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run(signal_cohort, arms[2:], out)
    (unfinished,) = (out / "jobs").glob("lin-seed=0-fraction=1-fold=2-*.json")
    unfinished.unlink()
    run(signal_cohort, arms[3:], out, resume=True)
    told, about = read_predictions(out / "predictions.parquet")
    assert set(told["arm"]) == {"vol"} and about["incomplete"] == ["lin, fraction 1, seed 0"]
    run(signal_cohort, arms[2:], out, resume=True)
    told, about = read_predictions(out / "predictions.parquet")
    assert set(told["arm"]) == {"lin", "vol"} and about["incomplete"] == []


def test_numbers_and_several_classes_go_the_same_road(
    signal_cohort: Cohort, arms: list[str], tmp_path: Path
) -> None:
    aged = run(signal_cohort, arms, tmp_path / "age", "epochs=8", target="age")
    told, about = read_predictions(aged.run / "predictions.parquet")
    assert about["kind"] == "regression" and aged.labels == ()
    assert told["score"].between(0, 100).all() and told["baseline"].notna().all()
    volume = told[told["arm"] == "vol"]
    assert np.corrcoef(volume["score"], volume["target"])[0, 1] > 0.5
    ill = run(signal_cohort, arms[:2], tmp_path / "dx", target="diagnosis")
    told, about = read_predictions(ill.run / "predictions.parquet")
    assert about["labels"] == ["CN", "AD", "MCI"] and ill.kind == "classification"
    scores = told[["score CN", "score AD", "score MCI"]]
    assert np.allclose(scores.sum(axis=1), 1)


def test_a_clear_signal_is_learnt(
    signal_cohort: Cohort, encoder_folder: Path, tmp_path: Path
) -> None:
    arms = [f"volta={encoder_folder}", "vit=scratch", f"ice=frozen:{encoder_folder}"]
    for settings in (["augment.enabled=true"], ["augment.enabled=false", "pooling=mean"]):
        out = tmp_path / settings[0]
        result = run(signal_cohort, arms, out, "epochs=25", "final_model=false", *settings)
        told, _ = read_predictions(result.run / "predictions.parquet")
        for arm, rows in told.groupby("arm"):
            right = (rows["score"] > 0.5) == (rows["target"] == "M")
            assert right.mean() > (0.7 if arm == "ice" else 0.85), (arm, settings)


def test_scans_left_out_are_written_down(
    signal_cohort: Cohort, arms: list[str], tmp_path: Path
) -> None:
    result = run(signal_cohort, arms[3:], tmp_path / "run", "classes=[CN, AD]", target="diagnosis")
    assert result.scans == 20 and len(result.dropped) == 10
    about = json.loads((result.run / "folds.json").read_text())["about"]
    assert about["dropped"] == list(result.dropped)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"target": "sax"}, UsageError, "Did you mean 'sex'"),
        ({"arms": ["vit=scratch"]}, UsageError, "scratch:small"),
        ({"arms": ["vit=scratch:small"]}, CohortError, "Preset 'small'"),
        ({"arms": ["vit=scratch:smal"]}, UsageError, "small"),
        ({"arms": ["v=swim"]}, UsageError, "swin"),
        ({"folds": 16}, UsageError, "has 15 subjects, fewer than 16 folds"),
    ],
)
def test_F19_what_cannot_work_fails_before_anything_is_written(
    signal_cohort: Cohort, tmp_path: Path, change: dict[str, Any], error: type, words: str
) -> None:
    given: dict[str, Any] = {"target": "sex", "arms": ["vol=volume"], "folds": 3} | change
    with pytest.raises(error, match=words):
        run(
            signal_cohort, given["arms"], tmp_path / "run", f"folds={given['folds']}",
            target=given["target"],
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_an_encoder_that_wants_other_scans_is_refused(
    encoder_folder: Path, tmp_path: Path, make_signal_cohort: Any
) -> None:
    other = make_signal_cohort(tmp_path / "other", Contract(size=16, spacing=2.0, synthetic=True))
    with pytest.raises(EncoderError, match="prepared differently"):
        run(other, [f"a={encoder_folder}"], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def with_participants(cohort: Cohort, folder: Path, **columns: Any) -> Cohort:
    """A copy with other columns in participants.tsv."""
    people = cohort.participants.assign(**columns)
    volumes = [cohort.volume(i) for i in range(len(cohort))]
    return write_cohort(folder, cohort.contract, volumes, people)


def test_a_cohort_without_volumes_cannot_have_a_volume_arm(
    signal_cohort: Cohort, arms: list[str], tmp_path: Path
) -> None:
    bare = with_participants(signal_cohort, tmp_path / "bare", foreground_mm3=math.nan)
    with pytest.raises(UsageError, match="No head or brain volume"):
        run(bare, arms[2:], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_volume_arm_goes_by_what_is_known_of_everybody_to_its_last_model(
    signal_cohort: Cohort, tmp_path: Path
) -> None:
    head = signal_cohort.participants["foreground_mm3"].to_numpy(float)
    both = with_participants(signal_cohort, tmp_path / "both", brain_mm3=head / 2)
    some = np.where(np.arange(len(head)) == 4, math.nan, head / 2)
    most = with_participants(signal_cohort, tmp_path / "most", brain_mm3=some)
    columns = {}
    for cohort in (both, most):
        result = run(cohort, ["vol=volume"], tmp_path / f"run-{cohort.path.name}")
        model = json.loads((result.models["vol"] / "config.json").read_text())
        declared = yaml.safe_load((result.run / "config.yaml").read_text())["arms"]["vol"]
        assert model["architecture"]["columns"] == declared["columns"]
        columns[cohort.path.name] = declared["columns"], result.findings
    assert columns["both"] == (["foreground_mm3", "brain_mm3"], ())
    assert columns["most"][0] == ["foreground_mm3"]
    assert columns["most"][1] == (
        "brain_mm3 is known for 29 of 30 scans only: the volume arm goes without it",
    )


def test_R10_corrected_labels_are_another_experiment(
    signal_cohort: Cohort, arms: list[str], tmp_path: Path
) -> None:
    table, out = tmp_path / "ages.tsv", tmp_path / "run"
    rows = [f"{s}\t{20 + i}" for i, s in enumerate(signal_cohort.scan_ids)]
    table.write_text("\n".join(["scan_id\tyears", *rows]))
    run(signal_cohort, arms[3:], out, target="years", labels=table)
    rows = [f"{s}\t{120 + i}" for i, s in enumerate(signal_cohort.scan_ids)]  # the same order
    table.write_text("\n".join(["scan_id\tyears", *rows]))
    with pytest.raises(CheckpointError, match="labels_hash"):
        run(signal_cohort, arms[3:], out, target="years", labels=table, resume=True)
