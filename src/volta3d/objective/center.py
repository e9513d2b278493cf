"""The teacher's centring and sharpening (equations 2 and 4) and the standardised bottleneck."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Center(nn.Module):
    """Running mean of the raw teacher logits, subtracted before they are sharpened.

    State: ``value`` [K], fp32.

    Source: paper equations 2 and 4, METHOD section 5: c <- m c + (1 - m) mean, updated after use.
    """

    value: Tensor

    def __init__(self, prototypes: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(prototypes))

    def distributions(self, logits: Tensor, temperature: float) -> Tensor:
        """softmax((logits - c) / temperature), [..., K] in fp32, without gradient."""
        return ((logits.detach().float() - self.value) / temperature).softmax(-1)

    @torch.no_grad()
    def update(self, mean: Tensor) -> None:
        """Move towards ``mean`` [K], the mean of raw teacher logits over everything but K."""
        self.value.lerp_(mean.float(), 1 - self.momentum)

    @torch.no_grad()
    def start(self, mean: Tensor) -> None:
        """Set the centre outright, from a first look at the data."""
        self.value.copy_(mean)


class Standardiser(nn.Module):
    """Running mean and variance of the teacher's bottleneck, per dimension.

    Features of different brains point the same way (cosine near 1); after (b - mu) / sqrt(v + eps)
    what is left is what tells them apart. The statistics come from the teacher's globals, student
    and teacher share them, and no gradient passes through them.

    State: ``mean`` and ``variance`` [bottleneck], fp32.

    Source: METHOD section 10, idea 1 [C].
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int, momentum: float, epsilon: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.epsilon = epsilon
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, bottleneck: Tensor) -> Tensor:
        """[..., width] to [..., width]; epsilon is a share of the mean variance."""
        variance = self.variance + self.epsilon * self.variance.mean()
        return (bottleneck - self.mean) * variance.rsqrt()

    @torch.no_grad()
    def update(self, mean: Tensor, square: Tensor) -> None:
        """Move towards the moments E[b] and E[b^2], each [width]."""
        variance = (square - mean.square()).clamp(min=0)
        self.mean.lerp_(mean, 1 - self.momentum)
        self.variance.lerp_(variance, 1 - self.momentum)

    @torch.no_grad()
    def start(self, mean: Tensor, square: Tensor) -> None:
        """Set the statistics outright, from a first look at the data."""
        self.mean.copy_(mean)
        self.variance.copy_((square - mean.square()).clamp(min=0))
