"""The decoder: two non-overlapping transposed convolutions, as matrix products per token.

Shape legend: B batch, T tokens, W width, C channels between the two, a and b the two kernels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def factors(edge: int) -> tuple[int, int]:
    """``edge`` as a * b with a >= b as close as they come: 16 = 4 * 4, 8 = 4 * 2.

    Raises:
        ValueError: ``edge`` is below 1.
    """
    if edge < 1:
        raise ValueError(f"a patch edge is at least 1, got {edge}")
    b = next(b for b in range(math.isqrt(edge), 0, -1) if edge % b == 0)
    return edge // b, b


class Decoder(nn.Module):
    """Tokens back to a volume, as MONAI's ViTAutoEnc does it (METHOD section 4).

    W to C with kernel and stride a, then C to 1 with kernel and stride b, a * b = patch edge,
    nothing between. Kernels equal strides, so no two patches overlap and each step is a linear
    map: ``expand`` [a³·C, W] and ``refine`` [b³, C], with MONAI's biases [C] and [1].

    Args:
        patch_size: edge of a patch.
        width: of a token.
        channels: C, MONAI's ``deconv_chns``.
    """

    def __init__(self, patch_size: int, width: int, channels: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.channels = channels
        self.first, self.second = factors(patch_size)
        self.expand = nn.Parameter(torch.empty(self.first**3 * channels, width))
        self.expand_bias = nn.Parameter(torch.empty(channels))
        self.refine = nn.Parameter(torch.empty(self.second**3, channels))
        self.refine_bias = nn.Parameter(torch.empty(1))
        self._start()

    def _start(self) -> None:
        # torch starts a transposed convolution with fan-in = output channels * kernel volume
        for weights, fan in (
            ((self.expand, self.expand_bias), self.channels * self.first**3),
            ((self.refine, self.refine_bias), self.second**3),
        ):
            for weight in weights:
                nn.init.uniform_(weight, -1 / math.sqrt(fan), 1 / math.sqrt(fan))

    def forward(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Tokens [B, T, W] in order D, H, W of ``grid`` to volumes [B, 1, D, H, W].

        Raises:
            ValueError: ``grid`` does not hold T tokens.
        """
        batch, count, _ = tokens.shape
        if math.prod(grid) != count:
            raise ValueError(f"{count} tokens do not fill the grid {grid}")
        a, b, p = self.first, self.second, self.patch_size
        coarse = functional.linear(tokens, self.expand).unflatten(-1, (a**3, self.channels))
        fine = functional.linear(
            coarse + self.expand_bias, self.refine, self.refine_bias.expand(b**3)
        )
        patches = fine.reshape(batch, *grid, a, a, a, b, b, b)
        # each axis: patch, place in the coarse kernel, place in the fine kernel
        placed = patches.permute(0, 1, 4, 7, 2, 5, 8, 3, 6, 9)
        return placed.reshape(batch, 1, *(p * edge for edge in grid))
