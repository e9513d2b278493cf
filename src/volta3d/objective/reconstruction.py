"""Equation 1: mean squared error over the masked voxels."""

from __future__ import annotations

import torch
from torch import Tensor


def reconstruction_loss(rebuilt: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """L_rec = sum over masked voxels of (rebuilt - target)^2 / number of masked voxels.

    Args:
        rebuilt: the decoder's output [V, 1, D, H, W].
        target: the clean augmented global views, same shape.
        mask: bool, same shape, True where a voxel was replaced.

    Returns:
        A scalar in fp32. Voxels outside the mask receive exactly zero gradient. An empty mask
        gives 0.

    Source: paper equation 1; METHOD section 3.
    """
    squared = (rebuilt.float() - target.float()).square() * mask
    return squared.sum() / mask.sum().clamp(min=1)


@torch.no_grad()
def foreground_error(rebuilt: Tensor, target: Tensor, mask: Tensor, threshold: Tensor) -> Tensor:
    """The same error over masked voxels whose target lies above ``threshold``, for the log.

    Zero fill equals background, so many masked voxels are trivial; this leaves them out.

    Args:
        threshold: [V, 1, 1, 1, 1], intensity above which a voxel counts as foreground.
    """
    return reconstruction_loss(rebuilt, target, mask & (target > threshold))
