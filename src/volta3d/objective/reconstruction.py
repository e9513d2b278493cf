"""Equation 1: mean squared error over the masked voxels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _MaskedSquares(torch.autograd.Function):
    """sum over masked voxels of difference^2, in one pass forward and one backward."""

    @staticmethod
    def forward(ctx: Any, rebuilt: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        difference = rebuilt.new_empty(rebuilt.shape, dtype=target.dtype)
        squares = []
        # volume by volume on a CPU: one fits its cache
        at_once = 1 if rebuilt.device.type == "cpu" else len(rebuilt)
        pieces = zip(*(x.split(at_once) for x in (rebuilt, target, mask, difference)), strict=True)
        for ours, wanted, masked, out in pieces:
            torch.sub(ours, wanted, out=out)
            out.masked_fill_(~masked, 0.0)
            squares.append(torch.dot(out.flatten(), out.flatten()))
        ctx.save_for_backward(difference)
        ctx.dtype = rebuilt.dtype
        return torch.stack(squares).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (difference,) = ctx.saved_tensors
        scaled = torch.empty_like(difference, dtype=ctx.dtype)
        torch.mul(difference, 2 * gradients[0], out=scaled)
        return scaled, None, None


def reconstruction_loss(
    rebuilt: Tensor, target: Tensor, mask: Tensor, count: Tensor | None = None
) -> Tensor:
    """L_rec = sum over masked voxels of (rebuilt - target)^2 / number of masked voxels.

    Args:
        rebuilt: the decoder's output [V, 1, D, H, W].
        target: the clean augmented global views, same shape.
        mask: bool, same shape, True where a voxel was replaced.
        count: what the sum is divided by, if not by the number of voxels masked here: where other
            processes hold other views of the same micro-batch.

    Returns:
        A scalar in fp32. Voxels outside the mask receive exactly zero gradient. An empty mask
        gives 0.

    Source: paper equation 1; METHOD section 3.
    """
    squares: Tensor = _MaskedSquares.apply(rebuilt, target, mask)
    return squares / (mask.count_nonzero() if count is None else count).clamp(min=1)


@torch.no_grad()
def foreground_error(rebuilt: Tensor, target: Tensor, mask: Tensor, threshold: Tensor) -> Tensor:
    """The same error over masked voxels whose target lies above ``threshold``, for the log.

    Zero fill equals background, so many masked voxels are trivial; this leaves them out.

    Args:
        threshold: [V, 1, 1, 1, 1], intensity above which a voxel counts as foreground.
    """
    return reconstruction_loss(rebuilt, target, (target > threshold).logical_and_(mask))
