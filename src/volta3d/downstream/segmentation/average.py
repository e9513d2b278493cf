"""A moving average of a network's weights, which is judged, kept and saved in its place."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def averaged(network: nn.Module) -> nn.Module:
    """A copy of a network for ``follow``: never trained, in the same memory layout."""
    return copy.deepcopy(network).requires_grad_(False).eval()


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, *, decay: float, step: int) -> None:
    """Move an average towards the weights of a network after an optimiser step [C].

    average <- d average + (1 - d) weights, with d = min(decay, (1 + step) / (10 + step)): at first
    the average forgets quickly, or it would hold on to the random start. Buffers are copied.

    Args:
        average: from ``averaged``; its fp32 weights are changed.
        network: with the same parameters in the same order.
        decay: of a step, in [0, 1].
        step: optimiser steps done before this one.
    """
    kept = min(decay, (1 + step) / (10 + step))
    own: list[Tensor] = list(average.parameters())
    new: list[Tensor] = list(network.parameters())
    torch._foreach_lerp_(own, new, 1 - kept)
    for buffer, value in zip(average.buffers(), network.buffers(), strict=True):
        buffer.copy_(value)
