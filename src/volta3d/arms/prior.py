"""A segmenting network's first answer: each class as often as it occurs.

A fresh network calls a third of the voxels background, and hundreds of steps go by before it calls
everything background, and more before it finds a structure of some hundred voxels: on synthetic
heads of 3 mm a UNETR had found neither hippocampus after 288 steps. With the last layer's bias at
the logarithm of each class's share (as focal loss starts its detectors, Lin et al. 2017) it had
both after 40. All arms start so.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

LEAST = 1e-4  # share of a class, so that none is beyond reach


@torch.no_grad()
def start_at_shares(network: nn.Module, shares: Sequence[float]) -> None:
    """Add the log of each class's share to the bias of the layer that makes the logits.

    Args:
        network: freshly built; unchanged where no convolution with a bias makes the logits.
        shares: of voxels, for each class, background first.
    """
    whole = sum(max(s, LEAST) for s in shares)
    logs = torch.tensor([max(s, LEAST) / whole for s in shares]).log()
    last = [
        m
        for m in network.modules()
        if isinstance(m, nn.Conv3d | nn.ConvTranspose3d) and m.out_channels == len(shares)
    ]
    if last and last[-1].bias is not None:
        last[-1].bias += logs.to(last[-1].bias)
