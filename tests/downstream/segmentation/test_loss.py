"""Dice and cross-entropy against a loop, and what a crop says of a structure that it lacks."""

from __future__ import annotations

import math

import pytest
import torch
from monai.losses.dice import DiceCELoss

from volta3d.downstream.segmentation.loss import DiceAndCrossEntropy


def crops() -> tuple[torch.Tensor, torch.Tensor]:
    """Three crops: with both structures, with the first alone, with none."""
    labels = torch.zeros(3, 1, 4, 4, 4, dtype=torch.int64)
    labels[0, 0, :2] = 1
    labels[0, 0, 3] = 2
    labels[1, 0, 0] = 1
    return torch.randn(3, 3, 4, 4, 4, requires_grad=True), labels


def by_hand(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Voxel by voxel, structure by structure."""
    chance = logits.detach().double().softmax(1)
    entropy, count, dice, present = 0.0, 0, 0.0, 0
    for b in range(len(labels)):
        for place in torch.cartesian_prod(*[torch.arange(4)] * 3).tolist():
            x, y, z = place
            entropy -= math.log(float(chance[b, labels[b, 0, x, y, z], x, y, z]))
            count += 1
        for c in (1, 2):
            truth = labels[b, 0] == c
            if truth.any():
                both = float(chance[b, c][truth].sum())
                dice += 1 - 2 * both / (float(chance[b, c].sum()) + int(truth.sum()))
                present += 1
    return entropy / count + dice / present


def test_the_dice_is_that_of_the_structures_a_crop_has() -> None:
    logits, labels = crops()
    found = DiceAndCrossEntropy(present_only=True)(logits, labels).item()
    assert found == pytest.approx(by_hand(logits, labels), rel=1e-4)  # smoothing of 1e-5


def test_with_every_structure_in_every_crop_it_is_monai_s() -> None:
    logits, labels = crops()
    theirs = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
    whole = DiceAndCrossEntropy(present_only=False)
    assert torch.equal(whole(logits, labels), theirs(logits, labels))
    ours = DiceAndCrossEntropy(present_only=True)
    torch.testing.assert_close(ours(logits[:1], labels[:1]), theirs(logits[:1], labels[:1]))


def test_a_structure_that_a_crop_lacks_takes_no_weight_from_the_one_it_has() -> None:
    logits, labels = crops()
    ours, theirs = (DiceAndCrossEntropy(present_only=p) for p in (True, False))
    entropy = torch.nn.functional.cross_entropy(logits[1:2], labels[1:2, 0])
    of_one = ours(logits[1:2], labels[1:2]) - entropy
    of_both = theirs(logits[1:2], labels[1:2]) - entropy
    assert of_both.item() == pytest.approx((of_one.item() + 1) / 2, abs=1e-3)


def test_a_batch_without_any_structure_is_learnt_from_by_cross_entropy() -> None:
    logits, labels = crops()
    found = DiceAndCrossEntropy(present_only=True)(logits[2:], labels[2:])
    wanted = torch.nn.functional.cross_entropy(logits[2:], labels[2:, 0])
    assert torch.equal(found, wanted)
