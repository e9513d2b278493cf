"""The pre-norm transformer block that encoder and summariser are made of.

Shape legend: B batch, T tokens, W width, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from volta3d.errors import EncoderError


class Attention(nn.Module):
    """Multi-head self-attention without dropout and without a bias on queries, keys, values.

    Raises:
        EncoderError: ``width`` is not a multiple of ``heads``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise EncoderError(
                f"The width {width} is not a multiple of {heads} attention heads",
                where="encoder",
                fix="Choose a width that is a multiple of the number of heads",
            )
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, rows: int | None = None) -> Tensor:
        """Tokens [B, T, W] to what the first ``rows`` of them (None: all) attend to."""
        width = tokens.shape[-1]
        if rows is None:
            query, key, value = self._split(self.qkv(tokens), 3)
        else:
            weight = self.qkv.weight
            (query,) = self._split(functional.linear(tokens[:, :rows], weight[:width]), 1)
            key, value = self._split(functional.linear(tokens, weight[width:]), 2)
        mixed = attend(query, key, value)
        attended: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return attended

    def _split(self, projected: Tensor, parts: int) -> tuple[Tensor, ...]:
        """[B, T, parts·W] to ``parts`` tensors [B, H, T, W/H]."""
        split = projected.unflatten(2, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return tuple(split.unbind(0))


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention [B, H, T, d], fused except where that is the slower way.

    On a CPU the fused kernel's backward pass in bf16 takes three times as long as that of two
    plain matrix products, which go through the processor's bf16 instructions.
    """
    plain = query.device.type == "cpu" and query.dtype == torch.bfloat16 and query.requires_grad
    if not plain:
        return functional.scaled_dot_product_attention(query, key, value)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return torch.softmax(scores, -1) @ value  # sums in fp32 inside, kept for the backward in bf16


class Mlp(nn.Module):
    """Linear, GELU (exact), linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """[..., W] to [..., W]."""
        lowered: Tensor = self.down(functional.gelu(self.up(tokens)))
        return lowered


class Block(nn.Module):
    """LayerNorm, attention, residual; LayerNorm, MLP, residual (METHOD section 4)."""

    def __init__(self, width: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, mlp)

    def forward(self, tokens: Tensor, rows: int | None = None) -> Tensor:
        """Tokens [B, T, W] to the first ``rows`` output tokens (None: all).

        The rows left out are never computed, the rows returned are the same as without.
        """
        tokens = tokens[:, :rows] + self.attention(self.norm1(tokens), rows)
        raised: Tensor = tokens + self.mlp(self.norm2(tokens))
        return raised
