"""Class probabilities of a whole volume from overlapping windows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.inferers.utils import sliding_window_inference
from torch import Tensor

from volta3d.cohort.contract import Contract

Network = Callable[[Tensor], Tensor]
Box = tuple[slice, slice, slice]


def black_of(volume: Tensor, contract: Contract) -> float:
    """The value of what lies outside the head in a prepared volume [D, H, W].

    The lower end of the contract's range. Where it has none (z-scores) every volume has a black of
    its own, its least value; that of another volume would turn air into head.
    """
    own = contract.value_range
    return own[0] if own else float(volume.min())


def foreground_box(volume: Tensor, background: float) -> Box:
    """The box [D, H, W] of all that is above the background; everything if nothing is."""
    inside = volume > background
    box = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        at = inside.any(others[1]).any(others[0]).nonzero()
        first, last = (int(at[0]), int(at[-1])) if len(at) else (0, volume.shape[axis] - 1)
        box.append(slice(first, last + 1))
    return box[0], box[1], box[2]


@torch.no_grad()
def slide(
    network: Network,
    volume: Tensor,
    *,
    size: int,
    overlap: float,
    batch: int,
    background: float = 0.0,
) -> Tensor:
    """Run ``network`` over cubes of edge ``size`` and blend what it says (Gaussian weights).

    Args:
        network: [B, 1, S, S, S] to [B, C, S, S, S].
        volume: float32 [D, H, W], of any shape; smaller than a window it is padded.
        size: edge S of a window.
        overlap: of neighbouring windows, in [0, 1).
        batch: windows at once.
        background: the value the volume is padded with.

    Returns:
        float32 [C, D, H, W].
    """
    blended = sliding_window_inference(
        volume[None, None],
        (size, size, size),
        batch,
        network,
        overlap=overlap,
        mode="gaussian",
        padding_mode="constant",
        cval=background,
        progress=False,
    )
    assert isinstance(blended, Tensor)
    return blended[0].float()


@torch.no_grad()
def probabilities(
    network: Network,
    volume: Tensor,
    *,
    size: int,
    overlap: float,
    batch: int,
    background: float,
    flips: tuple[tuple[int, ...], ...] = ((),),
    swapped: tuple[int, ...] | None = None,
) -> Tensor:
    """Softmax probabilities of a prepared volume; what lies outside the head is background.

    Args:
        network: crops to logits.
        volume: float32 [D, H, W].
        size, overlap, batch: see ``slide``.
        background: the value that surrounds the head, see ``black_of``.
        flips: the axes mirrored in each pass; the passes are averaged. ((),) is one plain pass.
        swapped: the order of the C classes in a mirrored body (left for right); None: the same.

    Returns:
        float32 [C, D, H, W], summing to 1 over C.
    """
    box = foreground_box(volume, background)
    inside = volume[box]

    def softened(windows: Tensor) -> Tensor:
        return torch.softmax(network(windows).float(), 1)

    total: Tensor | None = None
    for axes in flips:
        seen = torch.flip(inside, axes)
        one = slide(softened, seen, size=size, overlap=overlap, batch=batch, background=background)
        one = torch.flip(one, [a + 1 for a in axes])
        if swapped is not None and 0 in axes:
            one = one[list(swapped)]
        total = one if total is None else total + one
    assert total is not None
    found = total / len(flips)
    whole = found.new_zeros((found.shape[0], *volume.shape))
    whole[0] = 1.0
    whole[(slice(None), *box)] = found
    return whole


def flip_passes(kind: str) -> tuple[tuple[int, ...], ...]:
    """The passes of ``test_flips``: none, or left-right (2).

    Networks are trained on left-right flips alone. Averaging over flips of the other axes too,
    which they never saw, took a Dice of .862 to .058 (docs/LOG.md).
    """
    return ((), (0,)) if kind == "left-right" else ((),)
