"""The projection heads: features to prototype logits (METHOD section 4, after DINO)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class ProjectionHead(nn.Module):
    """MLP with GELU, L2 normalisation, weight-normalised linear without bias, gain fixed at 1.

    A logit is therefore the cosine between the bottleneck and a prototype's direction.

    Args:
        width: of the input.
        hidden: of the two hidden layers.
        bottleneck: of the MLP's output.
        prototypes: number K of logits.
    """

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last_layer = Prototypes(bottleneck, prototypes)

    def bottleneck(self, features: Tensor) -> Tensor:
        """Features [..., width] to the bottleneck [..., bottleneck], not normalised."""
        narrow: Tensor = self.mlp(features)
        return narrow

    def logits(self, bottleneck: Tensor) -> Tensor:
        """The bottleneck [..., bottleneck] to logits [..., K], all within [-1, 1]."""
        cosines: Tensor = self.last_layer(unit(bottleneck))
        return cosines

    def forward(self, features: Tensor) -> Tensor:
        """Features [..., width] to logits [..., K]."""
        return self.logits(self.bottleneck(features))


class Prototypes(nn.Module):
    """A weight-normalised linear layer without bias whose gain is fixed at 1.

    Row k of the effective weight is direction_k / |direction_k|. With the gain fixed, torch's
    ``weight_norm`` computes just this; here the module stays one plain parameter, which copies,
    saves and averages like any other.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        # the start of nn.Linear, which is what DINO leaves in its last layer
        self.direction = nn.Parameter(nn.Linear(width, count, bias=False).weight.detach())

    def weight(self) -> Tensor:
        """The effective weight [K, width]: rows of length 1."""
        return functional.normalize(self.direction, dim=-1)

    def forward(self, features: Tensor) -> Tensor:
        """[..., width] to [..., K]."""
        return functional.linear(features, self.weight().to(features.dtype))


def unit(vectors: Tensor) -> Tensor:
    """Vectors [..., n] scaled to length 1, in fp32 at least; a zero vector stays zero.

    Dividing by the largest entry first keeps the squares within range for any finite input; the
    result doesn't depend on that scale, so no gradient has to pass through it.
    """
    if vectors.dtype in (torch.bfloat16, torch.float16):
        vectors = vectors.float()
    largest = vectors.detach().abs().amax(-1, keepdim=True).clamp_min(1e-12)
    return functional.normalize(vectors / largest, dim=-1)
