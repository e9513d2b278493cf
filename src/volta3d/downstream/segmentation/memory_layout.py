"""How a convolutional network lies in memory, which decides how quick it is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm


class LayoutNorm(nn.InstanceNorm3d):
    """Instance norm that leaves channels last where they are.

    Torch's answers in plain layout whatever it is given, so that every norm between two
    convolutions costs two conversions, and two more backward. Batch norm on one sample at a time
    is the same sum, and keeps the layout.
    """

    def forward(self, volumes: Tensor) -> Tensor:
        """[B, C, D, H, W], each channel of each sample with mean 0 and variance 1."""
        laid = volumes.is_contiguous(memory_format=torch.channels_last_3d)
        if volumes.device.type != "cpu" or not laid or volumes.is_contiguous():
            plain: Tensor = super().forward(volumes)
            return plain
        parts = volumes.split(1)
        return torch.cat([batch_norm(p, None, None, training=True, eps=self.eps) for p in parts])


def fast_layout(network: nn.Module) -> nn.Module:
    """Weights of convolutions with channels last, which CPUs and tensor cores are quicker with."""
    for module in network.modules():
        if type(module) is nn.InstanceNorm3d and not (module.affine or module.track_running_stats):
            module.__class__ = LayoutNorm
    move: Any = network.to  # torch's stubs don't know of memory formats here
    laid: nn.Module = move(memory_format=torch.channels_last_3d)
    return laid


def plain_layout(network: nn.Module) -> nn.Module:
    """``fast_layout`` undone: torch's own norms and memory order, for other programs."""
    for module in network.modules():
        if type(module) is LayoutNorm:
            laid: Any = module
            laid.__class__ = nn.InstanceNorm3d
    move: Any = network.to
    plain: nn.Module = move(memory_format=torch.contiguous_format)
    return plain
