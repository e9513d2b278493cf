"""The block against a loop over heads and tokens written from the formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from volta3d.errors import EncoderError
from volta3d.model.block import Attention, Block

WIDTH, HEADS, TOKENS = 6, 2, 5


def random_block() -> Block:
    block = Block(WIDTH, HEADS, 10).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in block.parameters():
        parameter.data.normal_(generator=generator)
    return block


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = x - x.mean()
    return centred / torch.sqrt((centred * centred).mean() + 1e-5) * weight + bias


def loop(block: Block, tokens: Tensor) -> Tensor:
    """One sequence [T, W] through the block, token by token, head by head."""
    normed = [layer_norm(x, block.norm1.weight, block.norm1.bias) for x in tokens]
    weight, size = block.attention.qkv.weight, WIDTH // HEADS
    after = []
    for i, token in enumerate(tokens):
        heads = []
        for h in range(HEADS):
            rows = slice(h * size, (h + 1) * size)
            query = weight[:WIDTH][rows] @ normed[i]
            keys = [weight[WIDTH : 2 * WIDTH][rows] @ x for x in normed]
            values = [weight[2 * WIDTH :][rows] @ x for x in normed]
            scores = [math.exp(float(query @ key) / math.sqrt(size)) for key in keys]
            heads.append(sum((s / sum(scores)) * v for s, v in zip(scores, values, strict=True)))
        attended = block.attention.out.weight @ torch.cat(heads) + block.attention.out.bias
        x = token + attended
        y = block.mlp.up.weight @ layer_norm(x, block.norm2.weight, block.norm2.bias)
        y = y + block.mlp.up.bias
        y = 0.5 * y * (1 + torch.erf(y / math.sqrt(2)))
        after.append(x + block.mlp.down.weight @ y + block.mlp.down.bias)
    return torch.stack(after)


@torch.no_grad()
def test_block_equals_the_loop() -> None:
    block = random_block()
    tokens = torch.randn(2, TOKENS, WIDTH, dtype=torch.float64)
    expected = torch.stack([loop(block, sequence) for sequence in tokens])
    # float64, two orders of summation
    torch.testing.assert_close(block(tokens), expected, rtol=1e-10, atol=1e-10)


def test_first_rows_alone_equal_the_first_rows_of_all() -> None:
    block = random_block()
    tokens = torch.randn(2, TOKENS, WIDTH, dtype=torch.float64, requires_grad=True)
    few, every = block(tokens, rows=2), block(tokens)[:, :2]
    assert few.shape == (2, 2, WIDTH)
    torch.testing.assert_close(few, every, rtol=1e-12, atol=1e-12)
    inputs = (tokens, *block.parameters())
    pairs = zip(
        torch.autograd.grad(few.square().sum(), inputs),
        torch.autograd.grad(every.square().sum(), inputs),
        strict=True,
    )
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(EncoderError, match="multiple of 4 attention heads"):
        Attention(6, 4)
