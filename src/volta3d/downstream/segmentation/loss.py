"""Dice and cross-entropy of crops (METHOD section 7).

Shape legend: B crops, C classes with background first, S edge of a crop.
"""

from __future__ import annotations

import torch
from monai.losses.dice import DiceCELoss
from torch import Tensor, nn
from torch.nn import functional

SMOOTH = 1e-5  # of MONAI's DiceLoss, in numerator and denominator


class DiceAndCrossEntropy(nn.Module):
    """The sum of both; background counts in the cross-entropy alone, as intended.

    A crop that lacks a structure has nothing to say of its Dice: MONAI's is then 1 whatever is
    predicted, so that it only halves the weight of the structures that are there. Where sides are
    told apart most small crops hold one of them. What is wrongly predicted costs cross-entropy.

    Args:
        present_only: whether the Dice is the mean over the structures that a crop has (and 0 for a
            crop without any); else over all, which is MONAI's ``DiceCELoss``.
    """

    def __init__(self, *, present_only: bool) -> None:
        super().__init__()
        self.all = (
            None
            if present_only
            else DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
        )

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits [B, C, S, S, S] and classes [B, 1, S, S, S] to a number."""
        if self.all is not None:
            both: Tensor = self.all(logits, labels)
            return both
        classes = labels[:, 0].long()
        entropy = functional.cross_entropy(logits, classes)
        truth = functional.one_hot(classes, logits.shape[1]).movedim(-1, 1)[:, 1:].to(logits.dtype)
        chance = torch.softmax(logits, 1)[:, 1:]
        axes = (2, 3, 4)
        size = truth.sum(axes)  # [B, C - 1]
        overlap = 2 * (chance * truth).sum(axes)
        losses = 1 - (overlap + SMOOTH) / (chance.sum(axes) + size + SMOOTH)
        present = (size > 0).to(logits.dtype)
        return entropy + (losses * present).sum() / present.sum().clamp_min(1)
