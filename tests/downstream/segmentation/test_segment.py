"""``segment`` from a cohort to label maps: folds, selection, resuming, refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort, write_cohort
from volta3d.config import PrepareConfig, SegmentConfig, load_segment
from volta3d.downstream.predict import predict
from volta3d.downstream.segmentation.fit import Fit
from volta3d.downstream.segmentation.fold_runner import SegmentRunner
from volta3d.downstream.segmentation.model import _card, load_segment_model
from volta3d.downstream.segmentation.segment import segment
from volta3d.errors import CheckpointError, CohortError, EncoderError, UsageError, VoltaError
from volta3d.evaluate.segmentation.score import evaluate_segmentation
from volta3d.files import content_hash
from volta3d.ledger import Ledger
from volta3d.prepare import prepare
from volta3d.pretrain.log import read_metrics
from volta3d.statistics.splits import read_splits

EDGE = 16
TINY = [
    "crops.size=16", "crops.per_scan=2", "unet.channels=[4,8]", "unet.strides=[2]",
    "unet.residual_units=1", "unetr.features=2", "unetr.patch_size=8", "unetr.width=16",
    "unetr.depth=3", "unetr.heads=2", "unetr.mlp=16", "epochs=2", "validate_epochs=1",
    "warmup_epochs=0", "precision=fp32", "overlap=0",
]  # fmt: skip
NAMES = {47: "Right-Hippocampus", 48: "Left-Hippocampus"}


def tiny(*more: str) -> SegmentConfig:
    return load_segment("small", [*TINY, *more])


def brain(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright ball with two darker bodies, left and right, somewhere near their places."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices((EDGE,) * 3)
    volume = 0.6 * (((x - 7.5) ** 2 + (y - 7.5) ** 2 + (z - 7.5) ** 2) < 50).astype(np.float32)
    labels = np.zeros(volume.shape, np.uint16)
    at = rng.uniform(6.5, 8.5, 2)
    for value, middle in ((48, 4.5), (47, 10.5)):
        labels[((x - middle) ** 2 / 3 + (y - at[0]) ** 2 / 6 + (z - at[1]) ** 2 / 4) < 1.5] = value
    volume[labels > 0] = 1.0
    # tissue is never of one value, which would make it a label map
    volume *= 1 - 0.1 * rng.random(volume.shape)
    return (volume * rng.uniform(0.9, 1.0)).astype(np.float32), labels


def cohort_of(folder: Path, count: int) -> Cohort:
    pairs = [brain(seed) for seed in range(count)]
    people = pd.DataFrame(
        {
            "scan_id": [f"p_{i}" for i in range(count)],
            "participant_id": [f"sub-{i}" for i in range(count)],
            "dataset": "phantom",
        }
    )
    contract = Contract(size=EDGE, spacing=2.0, fit="pad", synthetic=True, label_names=NAMES)
    volumes, labels = [p[0] for p in pairs], [p[1] for p in pairs]
    return write_cohort(folder, contract, volumes, people, labels=labels)


@pytest.fixture
def labelled(tmp_path: Path) -> Cohort:
    return cohort_of(tmp_path / "labelled", 10)


def test_it_learns_and_leaves_the_tree_that_was_promised(labelled: Cohort, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = tiny("epochs=25", "validate_epochs=5", "lr=0.01")
    result = segment(labelled.path, ["unet=unet"], run, config, holdout=0.3)
    assert (result.scans, result.left, result.refused) == (10, 0, ())
    assert result.structures == ("Left-Hippocampus", "Right-Hippocampus")
    made = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
    for name in (
        "config.yaml", "folds.json", "refused.tsv", "arms/unet/metrics.jsonl",
        "arms/unet/model/config.json", "arms/unet/model/model.safetensors",
        "arms/unet/model/MODEL_CARD.md", "reference/dseg.tsv", "reference/volumes.tsv",
        "predictions/unet/dseg.tsv", "predictions/unet/volumes.tsv",
        "predictions/unet/dataset_description.json",
    ):  # fmt: skip
        assert name in made, name
    tested = [s for s, f in read_splits(run / "folds.json").fold.items() if f == 0]
    maps = sorted(p for p in made if p.startswith("predictions/unet/sub-"))
    assert len(tested) == 3 and len(maps) == 3
    record = json.loads(next((run / "jobs").glob("*.json")).read_text())["record"]
    # two bright bodies are easy: a network that learnt nothing scores below .2
    assert record["judged_dice"] > 0.7
    found = np.asarray(nib.load(run / maps[0]).dataobj)
    assert set(np.unique(found)) <= {0, 47, 48}
    model = load_segment_model(run / "arms" / "unet" / "model")
    assert model.config["trained_on"]["scans"] == record["scans"]["train"]
    assert not list(run.rglob("checkpoint"))


def test_arms_see_the_same_folds_and_crops_and_selection_is_apart_from_the_test(
    labelled: Cohort, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    segment(labelled.path, ["unet=unet", "vit=scratch"], run, tiny(), folds=2)
    records = [json.loads(p.read_text())["record"] for p in (run / "jobs").glob("*.json")]
    assert {(r["arm"], r["fold"]) for r in records} == {
        (a, f) for a in ("unet", "vit") for f in (0, 1)
    }
    splits = read_splits(run / "folds.json")
    for fold in (0, 1):
        part = splits.part(fold)
        assert not set(part.inner) & set(part.test) and not set(part.train) & set(part.test)
        tested = {
            tuple(sorted(p["participant_id"] for p in r["predicted"]))
            for r in records
            if r["fold"] == fold
        }
        assert tested == {part.test}
    assert all(r["scans"]["judged"] > 0 for r in records)


@pytest.mark.parametrize(("selection", "word"), [("paper", "OPTIMISTIC"), ("last", "last epoch")])
def test_the_paper_s_selection_is_there_and_labelled(
    labelled: Cohort, tmp_path: Path, selection: str, word: str
) -> None:
    run = tmp_path / "run"
    config = tiny("epochs=1", f"selection={selection}")
    segment(labelled.path, ["unet=unet"], run, config, holdout=0.2)
    assert word in (run / "config.yaml").read_text()
    record = json.loads(next((run / "jobs").glob("*.json")).read_text())["record"]
    assert record["scans"] == {"train": 8, "judged": 2 * (selection == "paper"), "test": 2}
    assert (record["judged_dice"] is None) == (selection == "last")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "arms" / "unet" / "seed-0" / "fold-0" / "weights.safetensors")


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("selection", ["inner", "last"])
def test_killed_between_epochs_it_goes_on_to_the_same_weights(
    labelled: Cohort, tmp_path: Path, average: float, selection: str
) -> None:
    config = tiny(
        "epochs=4", "checkpoint_minutes=1e-9", f"average={average}", f"selection={selection}"
    )
    segment(labelled.path, ["unet=unet"], tmp_path / "whole", config, holdout=0.2)

    class Killed(Exception):
        pass

    def kill(done: int, total: int, text: str) -> None:
        if done == 2:
            raise Killed

    run = tmp_path / "killed"
    with pytest.raises(Killed):
        segment(labelled.path, ["unet=unet"], run, config, holdout=0.2, progress=kill)
    with pytest.raises(UsageError, match="--resume"):
        segment(labelled.path, ["unet=unet"], run, config, holdout=0.2)
    seen: list[int] = []
    segment(
        labelled.path, ["unet=unet"], run, config, holdout=0.2, resume=True,
        progress=lambda done, total, text: seen.append(done),
    )  # fmt: skip
    assert seen[0] in (2, 3)  # epochs done before are not repeated
    first, second = weights(tmp_path / "whole"), weights(run)
    assert all(torch.equal(first[k], second[k]) for k in first)
    one, other = (read_metrics(r / "arms/unet/metrics.jsonl") for r in (tmp_path / "whole", run))
    assert [r["loss"] for r in one] == [r["loss"] for r in other]


@pytest.mark.slow
def test_R2_F1_kill_9_anywhere_and_resumed_it_ends_as_if_nothing_had_happened(
    labelled: Cohort, tmp_path: Path
) -> None:
    """SIGKILL in the first fold, again in the second, then to the end: the same, bitwise."""
    settings = ("epochs=6", "checkpoint_minutes=1e-9", "device=cpu")
    whole, run = tmp_path / "whole", tmp_path / "killed"
    segment(labelled.path, ["unet=unet"], whole, tiny(*settings), folds=2)
    command = [sys.executable, "-m", "volta3d", "segment", str(labelled.path), "--arm", "unet=unet"]
    command += ["--out", str(run), "--preset", "small", "--folds", "2", "--resume"]
    command += [part for s in (*TINY, *settings) for part in ("--set", s)]
    # one thread, as in this process: sums split over threads differ in their last bits
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    for fold in (0, 1):
        metrics = run / f"arms/unet/seed-0/fold-{fold}/metrics.jsonl"
        process = subprocess.Popen(command, env=alone, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not metrics.exists() or metrics.read_bytes().count(b"\n") < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not (run / "arms" / "unet" / "model").exists()
    segment(labelled.path, ["unet=unet"], run, tiny(*settings), folds=2, resume=True)
    for fold in (0, 1):
        one, other = (r / f"arms/unet/seed-0/fold-{fold}" for r in (whole, run))
        assert (one / "weights.safetensors").read_bytes() == (
            other / "weights.safetensors"
        ).read_bytes()
        first, second = (
            [{k: v for k, v in r.items() if k != "seconds"} for r in read_metrics(f)]
            for f in (one / "metrics.jsonl", other / "metrics.jsonl")
        )
        assert first == second and len(first) == 6
    told = sorted(p.relative_to(whole) for p in whole.rglob("*.nii.gz"))
    assert told and told == sorted(p.relative_to(run) for p in run.rglob("*.nii.gz"))
    for path in told:
        assert np.array_equal(
            nib.load(whole / path).get_fdata(), nib.load(run / path).get_fdata()
        ), path


def test_a_finished_job_is_not_done_again_and_other_settings_are_refused(
    labelled: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    segment(labelled.path, ["unet=unet"], run, tiny("epochs=1"), holdout=0.2)
    with pytest.raises(CheckpointError, match="epochs"):
        segment(labelled.path, ["unet=unet"], run, tiny("epochs=3"), holdout=0.2, resume=True)
    done: list[str] = []
    real = SegmentRunner.do

    def watched(self: Any, job: Any, notify: Any = None) -> Any:
        done.append(job.id)
        return real(self, job, notify)

    monkeypatch.setattr(SegmentRunner, "do", watched)
    arms = ["unet=unet", "vit=scratch"]
    segment(labelled.path, arms, run, tiny("epochs=1"), holdout=0.2, resume=True)
    assert done == ["vit/seed=0/fraction=1/fold=0"]  # an arm that was added


def test_a_run_begun_before_a_setting_existed_goes_on(labelled: Cohort, tmp_path: Path) -> None:
    """Its config.yaml lacks the setting, and its checkpoint was written without it."""
    config, run = tiny("epochs=3", "checkpoint_minutes=1e-9"), tmp_path / "run"

    class Killed(Exception):
        pass

    def kill(done: int, total: int, text: str) -> None:
        if done == 2:
            raise Killed

    with pytest.raises(Killed):
        segment(labelled.path, ["unet=unet"], run, config, holdout=0.2, progress=kill)
    before = yaml.safe_load((run / "config.yaml").read_text())
    del before["settings"]["absent"], before["settings"]["crops"]["bias"]
    del before["settings"]["fractions"]
    (run / "config.yaml").write_text(yaml.safe_dump(before, sort_keys=False))
    (file,) = run.rglob("checkpoint/state.json")
    state = json.loads(file.read_text())
    assert state["identity"]["settings"] == content_hash(config.science())  # as now
    every = {**config.science(), "preset": config.preset, "seeds": 1}
    old = {k: v for k, v in every.items() if k != "absent"}
    state["identity"]["settings"] = content_hash(old)
    file.write_text(json.dumps(state))
    for other in ("absent=allow", "crops.bias=0.5"):
        with pytest.raises(CheckpointError, match=other.split(".")[0].split("=")[0]):
            segment(
                labelled.path, ["unet=unet"], run, tiny("epochs=3", other), holdout=0.2, resume=True
            )
    seen: list[int] = []
    segment(
        labelled.path, ["unet=unet"], run, config, holdout=0.2, resume=True,
        progress=lambda done, total, text: seen.append(done),
    )  # fmt: skip
    assert seen[0] in (2, 3)


def test_fractions_and_seeds_may_be_added_and_each_has_its_label_maps(tmp_path: Path) -> None:
    run, labelled = tmp_path / "run", cohort_of(tmp_path / "more", 24)
    segment(labelled.path, ["unet=unet"], run, tiny("epochs=1"), folds=2)
    before = read_splits(run / "folds.json")
    more = tiny("epochs=1", "fractions=[0.4, 1.0]", "seeds=2")
    segment(labelled.path, ["unet=unet"], run, more, folds=2, resume=True)
    splits = read_splits(run / "folds.json")
    assert splits.hash == before.hash and set(splits.orders) == {0, 1}
    folders = {p.name for p in (run / "predictions").iterdir()}
    assert folders == {"unet", "unet.seed1", "unet.fraction0.4", "unet.fraction0.4.seed1"}
    for name in folders:
        assert len(list((run / "predictions" / name).rglob("*_dseg.nii.gz"))) == 24
    records = [json.loads(p.read_text())["record"] for p in (run / "jobs").glob("*.json")]
    assert len(records) == 8
    for record in records:
        part = splits.part(record["fold"], fraction=record["fraction"], seed=record["seed"])
        assert record["scans"]["train"] == len(part.train)
    sizes = {r["fraction"]: r["scans"]["train"] for r in records}
    assert sizes[0.4] < sizes[1.0]
    model = json.loads((run / "arms/unet/model/config.json").read_text())
    assert model["trained_on"]["scans"] == sizes[1.0]  # of the whole training part
    assert evaluate_segmentation(run).cases["case"].nunique() == 24
    # an earlier, smaller call again leaves the rest as it is
    segment(labelled.path, ["unet=unet"], run, tiny("epochs=1"), folds=2, resume=True)
    lines = read_metrics(run / "arms/unet/metrics.jsonl")
    assert {(r["fraction"], r["seed"]) for r in lines if r["kind"] == "epoch"} == {
        (f, s) for f in (0.4, 1.0) for s in (0, 1)
    }


def test_a_run_of_jobs_without_fractions_is_gone_on_with(labelled: Cohort, tmp_path: Path) -> None:
    """As an earlier release left it: other names in the ledger, no fraction in the records."""
    run, ledger = tmp_path / "run", tmp_path / "run" / "jobs"
    segment(labelled.path, ["unet=unet"], run, tiny("epochs=1"), holdout=0.2)
    (file,) = ledger.glob("*.json")
    record = json.loads(file.read_text())["record"]
    del record["fraction"]
    file.unlink()
    Ledger(ledger).finish("unet/seed=0/fold=0", record)
    content = yaml.safe_load((run / "config.yaml").read_text())
    del content["settings"]["fractions"]
    (run / "config.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    before = (run / "arms/unet/seed-0/fold-0/weights.safetensors").stat().st_mtime_ns
    segment(labelled.path, ["unet=unet"], run, tiny("epochs=1"), holdout=0.2, resume=True)
    after = (run / "arms/unet/seed-0/fold-0/weights.safetensors").stat().st_mtime_ns
    assert before == after
    assert evaluate_segmentation(run).cases["case"].nunique() == 2


def test_a_structure_that_never_begins_is_said_loudly(
    labelled: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def background(self: Fit, volume: torch.Tensor, flips: Any = ((),)) -> torch.Tensor:
        return torch.eye(3)[0][:, None, None, None].expand(3, *volume.shape)

    monkeypatch.setattr(Fit, "predict", background)
    run, said = tmp_path / "run", list[str]()
    result = segment(
        labelled.path, ["unet=unet"], run, tiny("epochs=6", "selection=last"),
        holdout=0.2, progress=lambda done, total, text: said.append(text),
    )  # fmt: skip
    lines = [
        r for r in read_metrics(run / "arms/unet/metrics.jsonl")
        if r.get("code") == "structure-not-begun"
    ]  # fmt: skip
    assert [r["epoch"] for r in lines] == [2, 6]
    (finding,) = result.findings
    assert "never begun" in finding and finding.startswith("unet/seed=0/fraction=1/fold=0: ")
    assert any("nothing outlined after 2 of 6 epochs" in text for text in said)


def test_the_card_says_where_no_scan_could_choose_the_epoch(
    labelled: Cohort, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    segment(labelled.path, ["unet=unet"], run, tiny("epochs=1"), holdout=0.2)
    content = json.loads((run / "arms" / "unet" / "model" / "config.json").read_text())
    assert "on the scans it was chosen on)." in _card(content)
    assert "it is the last epoch)." in _card({**content, "inner_dice": None})
    last = _card({**content, "inner_dice": None, "selection": "last"})
    assert "Epoch 1, chosen by: last.\n" in last


def test_intervals_and_tests_count_the_people_that_folds_go_by(tmp_path: Path) -> None:
    """sub-1 of two data sets is two people, and who shares an image is one."""
    pairs = [brain(seed) for seed in range(10)]
    people = pd.DataFrame(
        {
            "scan_id": [f"p_{i}" for i in range(10)],
            "participant_id": ["sub-1", "sub-1", *(f"sub-{i}" for i in range(2, 10))],
            "dataset": ["one", *["other"] * 9],
            "source_sha256": ["same" if i in (8, 9) else str(i) for i in range(10)],
        }
    )
    contract = Contract(size=EDGE, spacing=2.0, fit="pad", synthetic=True, label_names=NAMES)
    cohort = write_cohort(
        tmp_path / "c", contract, [p[0] for p in pairs], people, labels=[p[1] for p in pairs]
    )
    run = tmp_path / "run"
    segment(cohort.path, ["unet=unet"], run, tiny("epochs=1"), folds=2)
    folds = read_splits(run / "folds.json").fold
    cases = evaluate_segmentation(run).cases
    assert set(cases["subject"]) == set(folds) and len(folds) == 9
    assert cases["case"].nunique() == 10


def test_a_frozen_encoder_stays_and_a_staged_one_thaws(
    encoder_folder: Path, labelled: Cohort, tmp_path: Path
) -> None:
    # the encoder saw voxels of 8 mm pooled by 2: its patches of 4 become patches of 8 here
    config = tiny("epochs=2", "tune.frozen_epochs=1", "selection=last")
    people = labelled.participants[["scan_id", "participant_id", "dataset"]]
    contract = labelled.contract.model_copy(update={"spacing": 8.0})
    coarse = write_cohort(
        tmp_path / "coarse", contract, [labelled.volume(i) for i in range(10)], people,
        labels=[labelled.label(i) for i in range(10)],
    )  # fmt: skip
    arms = [f"frozen=frozen:{encoder_folder}", f"staged=staged:{encoder_folder}"]
    segment(coarse.path, arms, tmp_path / "run", config, holdout=0.2)
    declared = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["arms"]
    assert {a["pretraining_saw"] for a in declared.values()} == {"unknown"}
    (encoder_folder.parent / "cohort.json").write_text('{"scan_ids": ["p_0", "other"]}')
    segment(coarse.path, arms, tmp_path / "run", config, holdout=0.2, resume=True)
    declared = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["arms"]
    assert {a["pretraining_saw"] for a in declared.values()} == {"1 of these scans, without labels"}
    name = "encoder.blocks.0.mlp.up.weight"
    given = load_file(encoder_folder / "model.safetensors")[name]
    for arm, same in (("frozen", True), ("staged", False)):
        found = load_file(tmp_path / "run" / "arms" / arm / "model" / "model.safetensors")
        assert torch.equal(found[name], given) is same


def test_T5_scans_with_bad_labels_are_left_out_and_the_batch_goes_on(
    labelled: Cohort, tmp_path: Path
) -> None:
    labels = [labelled.label(i) for i in range(10)]
    swapped = np.where(labels[0] == 47, 48, np.where(labels[0] == 48, 47, 0)).astype(np.uint16)
    one_sided = np.where(labels[1] == 47, 0, labels[1]).astype(np.uint16)
    bad = [swapped, one_sided, None, *labels[3:]]
    people = labelled.participants[["scan_id", "participant_id", "dataset"]]
    cohort = write_cohort(
        tmp_path / "bad", labelled.contract, [labelled.volume(i) for i in range(10)], people,
        labels=bad,
    )  # fmt: skip
    result = segment(cohort.path, ["u=unet"], tmp_path / "run", tiny("epochs=1"), holdout=0.3)
    codes = {r["scan_id"]: r["code"] for r in result.refused}
    assert codes == {"p_0": "sides-swapped", "p_1": "structure-missing", "p_2": "no-label"}
    assert all(r["how_to_fix"] for r in result.refused)
    table = (tmp_path / "run" / "refused.tsv").read_text().splitlines()
    assert len(table) == 4 and result.scans == 7


def test_what_cannot_work_is_refused_before_anything_is_made(
    labelled: Cohort, cohort: Cohort, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(CohortError, match="no label maps"):
        segment(cohort.path, ["u=unet"], run, tiny())
    with pytest.raises(UsageError, match="exclude each other"):
        segment(labelled.path, ["u=unet"], run, tiny(), folds=2, holdout=0.2)
    with pytest.raises(UsageError, match="NAME=SPEC"):
        segment(labelled.path, ["unet"], run, tiny())
    with pytest.raises(UsageError, match="strides"):
        segment(labelled.path, ["u=unet"], run, tiny("unet.strides=[3]"))
    with pytest.raises(UsageError, match="thalamus"):
        segment(labelled.path, ["u=unet"], run, tiny("labels=thalamus"))
    assert not run.exists()


def bids(root: Path, count: int = 5) -> Path:
    """Raw scans of 2 mm stored along odd axes, with label maps."""
    (root / "derivatives" / "manual").mkdir(parents=True)
    (root / "dataset_description.json").write_text('{"Name": "tiny", "BIDSVersion": "1.9.0"}')
    table = "index\tname\n47\tRight-Hippocampus\n48\tLeft-Hippocampus\n"
    (root / "derivatives" / "manual" / "dseg.tsv").write_text(table)
    for number in range(count):
        volume, labels = brain(number)
        affine = np.diag([2.0, 2.0, 2.0, 1.0])
        affine[:3, 3] = (-16.0, -10.0 + number, 3.0)
        ornt = np.array([[1, -1], [2, 1], [0, -1]], float)
        affine = affine @ nib.orientations.inv_ornt_aff(ornt, volume.shape)
        for folder, data, ending in (
            (root, volume, "T1w"),
            (root / "derivatives" / "manual", labels, "desc-manual_dseg"),
        ):
            target = folder / f"sub-{number}" / "anat" / f"sub-{number}_{ending}.nii.gz"
            target.parent.mkdir(parents=True)
            stored = nib.orientations.apply_orientation(data, ornt)
            nib.save(nib.Nifti1Image(stored, affine), target)
    return root


def test_from_raw_scans_to_label_maps_in_their_own_space_and_new_scans(tmp_path: Path) -> None:
    source = bids(tmp_path / "raw")
    prepared = PrepareConfig(size=20, spacing=2.0, fit="pad")
    prepare([source], tmp_path / "cohort", config=prepared)
    config = tiny("epochs=12", "validate_epochs=4", "lr=0.02", "test_flips=left-right")
    run = tmp_path / "run"
    segment(tmp_path / "cohort", ["unet=unet"], run, config, holdout=0.2)
    path = next((run / "predictions" / "unet").rglob("*_dseg.nii.gz"))
    subject = path.name.split("_")[0]
    scan = source / subject / "anat" / f"{subject}_T1w.nii.gz"
    own, found = nib.load(scan), nib.load(path)
    assert found.shape == own.shape and np.allclose(found.affine, own.affine)
    truth = nib.load(next((run / "reference").rglob(f"{subject}*_dseg.nii.gz")))
    manual = nib.load(next((source / "derivatives").rglob(f"{subject}*_dseg.nii.gz")))
    assert np.array_equal(np.asarray(truth.dataobj), np.asarray(manual.dataobj))

    (source / "sub-broken" / "anat").mkdir(parents=True)
    (source / "sub-broken" / "anat" / "sub-broken_T1w.nii.gz").write_bytes(b"no scan")
    out = tmp_path / "told"
    result = predict(run / "arms" / "unet" / "model", source, out, flips="left-right", largest=True)
    assert result.predicted == 5
    assert [r["code"] for r in result.refused] and all(r["how_to_fix"] for r in result.refused)
    again = nib.load(next(out.rglob(f"{subject}_*_dseg.nii.gz")))
    assert again.shape == own.shape and np.allclose(again.affine, own.affine)
    volumes = pd.read_csv(out / "volumes.tsv", sep="\t")
    labels = np.asarray(again.dataobj)
    left = volumes[
        volumes["scan_id"].str.contains(subject) & (volumes["structure"] == "Left-Hippocampus")
    ]
    assert left["mm3"].iloc[0] == pytest.approx(8.0 * (labels == 48).sum())
    assert len(list(out.rglob("*_preview.png"))) == 5
    about = json.loads((out / "predictions.json").read_text())
    assert (about["test_flips"], about["largest_component"]) == ("left-right", True)

    with pytest.raises(UsageError, match="scans it was prepared from"):
        predict(run / "arms" / "unet" / "model", tmp_path / "cohort", tmp_path / "none")
    with pytest.raises(UsageError, match="left-right"):
        predict(run / "arms" / "unet" / "model", source, tmp_path / "none", flips="up")


def test_label_maps_that_moved_away_are_missed_before_training(tmp_path: Path) -> None:
    source = bids(tmp_path / "raw")
    prepare([source], tmp_path / "cohort", config=PrepareConfig(size=20, spacing=2.0, fit="pad"))
    (source / "derivatives").rename(tmp_path / "elsewhere")
    with pytest.raises(CohortError, match="not where they were"):
        segment(tmp_path / "cohort", ["u=unet"], tmp_path / "run", tiny(), holdout=0.2)
    assert not (tmp_path / "run").exists()


def test_a_damaged_model_is_refused(labelled: Cohort, tmp_path: Path) -> None:
    run = tmp_path / "run"
    segment(labelled.path, ["unet=unet"], run, tiny("epochs=1"), holdout=0.2)
    folder = run / "arms" / "unet" / "model"
    content = json.loads((folder / "config.json").read_text())
    for change in (
        {"weights_sha256": "0" * 64},
        {"architecture": {**content["architecture"], "channels": [4, 10**9]}},
        {"architecture": {**content["architecture"], "channels": [4, 9]}},
        {"labels": content["labels"][:1]},
        {"kind": "regression", "labels": []},
        {"crop": "large"},
    ):
        (folder / "config.json").write_text(json.dumps({**content, **change}))
        with pytest.raises((EncoderError, VoltaError)):
            load_segment_model(folder)
