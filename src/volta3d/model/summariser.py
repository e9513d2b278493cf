"""The CLS-style summariser: a learned token gathers the patch tokens into one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from volta3d.model.block import Block


class Summariser(nn.Module):
    """A learned token is prepended to the tokens and passes one block (METHOD section 4).

    MLP width 4 times the token's, no dropout, no position embedding, token std .02 [C]; no bias
    on queries, keys and values, as in the encoder [C].

    Args:
        width: of a token.
        heads: attention heads.

    Raises:
        EncoderError: ``width`` is not a multiple of ``heads``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.empty(1, 1, width))
        nn.init.trunc_normal_(self.token, std=0.02)
        self.block = Block(width, heads, 4 * width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B, T, W] to one vector [B, W] each; the order of the tokens is immaterial."""
        token = self.token.to(tokens.dtype).expand(tokens.shape[0], -1, -1)
        # only the token goes on, so only its row is computed
        summary: Tensor = self.block(torch.cat((token, tokens), dim=1), rows=1)
        return summary[:, 0]
