"""The loop: which epoch is taken, when it stops, what it refuses, and what it is made of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from volta3d.arms.classifier import NetworkArm, resolve
from volta3d.arms.fold_data import FoldData, FoldResult, class_weights
from volta3d.cohort.store import Cohort
from volta3d.config import ClassifyConfig, load_classify
from volta3d.downstream.classification.fit import Learner, _loss
from volta3d.downstream.classification.inputs import Cubes, stemmed
from volta3d.errors import ConfigError, Diverged
from volta3d.files import content_hash
from volta3d.pretrain.data import Scans

VALUES = np.arange(30) % 2 * 1.0
PARTS = np.split(np.arange(30), [16, 22])


def config_of(*settings: str) -> ClassifyConfig:
    return load_classify("small", ["epochs=4", "lr=1e-2", "tune=last", "precision=fp32", *settings])


def question(values: np.ndarray = VALUES, classes: int = 2) -> FoldData:
    train, inner, test = PARTS
    return FoldData(train, inner, test, values[train], values[inner], classes, seed=0)


def learner(cohort: Cohort, arm: NetworkArm, config: ClassifyConfig, outputs: int = 2) -> Learner:
    cubes = Cubes(Scans([cohort], downsample=arm.downsample), arm.image_size, config.augment, 0)
    network = arm.network(config, outputs, seed=0)
    return Learner(
        network, cubes, np.arange(30), None, config, standardised=False, bf16=False
    )  # fmt: skip


@pytest.fixture
def arm(signal_cohort: Cohort, encoder_folder: Path) -> NetworkArm:
    (arm,) = resolve([f"a={encoder_folder}"], signal_cohort, config_of(), np.arange(30))
    assert isinstance(arm, NetworkArm)
    return arm


def learnt(cohort: Cohort, arm: NetworkArm, *settings: str, **more: Any) -> FoldResult:
    return learner(cohort, arm, config_of(*settings)).learn(more.get("asked", question()))


def test_the_epoch_taken_is_the_one_with_the_lowest_inner_loss(
    signal_cohort: Cohort, arm: NetworkArm
) -> None:
    told = learnt(signal_cohort, arm, "lr=0.1", "epochs=6")
    losses = [h["inner_loss"] for h in told.history]
    assert told.epoch == int(np.argmin(losses)) and len(losses) == 6
    last = learnt(signal_cohort, arm, "lr=0.1", "epochs=6", "epoch=last")
    assert last.epoch == 5 and last.history == told.history
    # the weights are those of that epoch: the same as stopping there
    short = learnt(signal_cohort, arm, "lr=0.1", f"epochs={told.epoch + 1}", "epoch=last")
    assert np.array_equal(short.test, told.test)


def test_patience_ends_the_training_early(signal_cohort: Cohort, arm: NetworkArm) -> None:
    told = learnt(signal_cohort, arm, "lr=0.3", "epochs=40", "patience=2")
    assert len(told.history) < 40 and told.epoch == len(told.history) - 3


def test_F14_a_loss_that_is_no_number_names_the_scans(
    signal_cohort: Cohort, arm: NetworkArm
) -> None:
    with pytest.raises(Diverged, match=r"not finite in epoch \d+, scans phantom_"):
        learnt(signal_cohort, arm, "lr=1e30")


def test_the_loss_is_class_balanced_cross_entropy(signal_cohort: Cohort, arm: NetworkArm) -> None:
    uneven = (np.arange(30) % 4 == 0) * 1.0
    balanced = ("epochs=1", "epoch=last", "class_weights=balanced")
    result = learnt(signal_cohort, arm, *balanced, asked=question(uneven))
    train = uneven[PARTS[0]]
    # n / (C n_c) by the published definition: mean one over the training part
    by_class = np.array([len(train) / (2 * (train == c).sum()) for c in (0, 1)])
    assert by_class[train.astype(int)].mean() == pytest.approx(1)
    inner = uneven[PARTS[1]].astype(int)
    chance = result.inner[np.arange(6), inner]
    wanted = float((by_class[inner] * -np.log(chance)).mean())
    assert result.history[0]["inner_loss"] == pytest.approx(wanted, rel=1e-4)  # fp32 logits
    plain = learnt(signal_cohort, arm, "epochs=1", "epoch=last", asked=question(uneven))
    wanted = float(-np.log(plain.inner[np.arange(6), inner]).mean())
    assert plain.history[0]["inner_loss"] == pytest.approx(wanted, rel=1e-4)


def test_the_rare_class_carries_half_of_an_epoch_s_loss() -> None:
    """347 healthy, 73 with AD, batches of 8: as in AIBL; each scan's loss is ln 2 at first."""
    values = np.zeros(420)
    values[np.random.default_rng(0).choice(420, 73, replace=False)] = 1
    weights = torch.from_numpy(class_weights(values, 2).astype(np.float32))
    rare = whole = 0.0
    for part in np.split(np.random.default_rng(1).permutation(420), range(8, 420, 8)):
        targets = torch.from_numpy(values[part].astype(np.int64))
        logits = torch.zeros(len(part), 2, requires_grad=True)
        loss = _loss(logits, targets, weights) * len(part)
        (gradient,) = torch.autograd.grad(loss, logits)
        # at zero logits a scan's gradient is its weight over two, whatever its class
        own = 2 * gradient.abs()[:, 0]
        rare += float(own[targets == 1].sum())
        whole += float(own.sum())
    assert rare / whole == pytest.approx(0.5, abs=1e-4)


def test_numbers_are_learnt_in_units_of_their_deviation(
    signal_cohort: Cohort, arm: NetworkArm
) -> None:
    ages = 40 + 20 * VALUES
    fitted = learner(signal_cohort, arm, config_of("epochs=30"), outputs=1)
    told = fitted.learn(question(ages, classes=0))
    assert told.facts == {"mean": 50.0, "deviation": 10.0} and told.test.shape == (8, 1)
    assert np.abs(told.test[:, 0] - ages[PARTS[2]]).mean() < 8  # 10 would be the mean's


def test_what_the_frozen_part_makes_is_kept_on_disk_and_read_back(
    signal_cohort: Cohort, arm: NetworkArm, tmp_path: Path
) -> None:
    config = config_of()
    cubes = Cubes(Scans([signal_cohort], downsample=arm.downsample), 8, config.augment, 0)
    calls: list[int] = []

    def stem(volumes: torch.Tensor) -> torch.Tensor:
        calls.append(len(volumes))
        return volumes.flatten(1)[:, :5] * 2

    file = tmp_path / "stem.safetensors"
    made = stemmed(cubes, stem, np.arange(30), file)
    assert made is not None and made.shape == (30, 5) and sum(calls) == 31
    again = stemmed(cubes, stem, np.arange(30), file)
    assert again is not None and torch.equal(again, made) and sum(calls) == 32
    file.write_bytes(b"damaged")
    again = stemmed(cubes, stem, np.arange(30), file)
    assert again is not None and torch.equal(again, made)


@pytest.mark.parametrize("augmented", [False, True])
def test_stored_stems_give_the_same_fit(
    signal_cohort: Cohort, arm: NetworkArm, augmented: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With augmentation they serve inner validation and test."""
    config = config_of("blocks=1", f"augment.enabled={str(augmented).lower()}")
    plain = learner(signal_cohort, arm, config)
    told = plain.learn(question())
    kept = learner(signal_cohort, arm, config)
    stem, seen = kept.network.stem, []
    kept.stored = stemmed(kept.cubes, stem, np.arange(30), None)

    def watched(cubes: torch.Tensor) -> torch.Tensor:
        seen.append(len(cubes))
        made: torch.Tensor = stem(cubes)
        return made

    monkeypatch.setattr(kept.network, "stem", watched)
    found = kept.learn(question())
    # batches of other sizes may round differently
    assert np.abs(found.test - told.test).max() < 1e-3
    assert np.abs(found.inner - told.inner).max() < 1e-3
    assert sum(seen) == (config.epochs * len(PARTS[0]) if augmented else 0)


def test_L2_what_pretraining_saw_of_the_cohort_is_said(
    signal_cohort: Cohort, encoder_folder: Path, tmp_path: Path
) -> None:
    config_file = encoder_folder / "config.json"
    content = json.loads(config_file.read_text())

    def saw() -> str:
        return resolve([f"a={encoder_folder}"], signal_cohort, config_of(), np.arange(30))[0].saw

    assert saw() == "unknown"
    beside = encoder_folder.parent / "cohort.json"
    beside.write_text(json.dumps({"scan_ids": ["phantom_03", "phantom_07", "other"]}))
    assert saw() == "2 of these scans, without labels"
    beside.write_text(json.dumps({"scan_ids": ["other"]}))
    assert saw() == "none of these scans"
    content["facts"]["data_hash"] = content_hash([signal_cohort.hash()])
    config_file.write_text(json.dumps(content))
    assert saw() == "all of these scans, without labels"


def test_a_loss_that_breaks_down_after_the_last_step_is_told_too(
    signal_cohort: Cohort, arm: NetworkArm
) -> None:
    with pytest.raises(Diverged, match="inner validation is not finite in epoch 0"):
        learnt(signal_cohort, arm, "lr=1e25", "epochs=1", "batch_size=64")
    with pytest.raises(Diverged, match="says of the scans is not finite"):
        nobody = np.empty(0, np.int64)
        alone = replace(question(), inner=nobody, inner_values=VALUES[nobody])
        learnt(signal_cohort, arm, "lr=1e25", "epochs=1", "batch_size=64", asked=alone)


def test_patience_without_a_choice_of_epoch_is_refused() -> None:
    with pytest.raises(ConfigError, match="epoch=inner"):
        config_of("epoch=last", "patience=3")
