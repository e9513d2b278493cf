"""The decoder against torch's transposed convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from volta3d.model.decoder import Decoder, factors


@pytest.mark.parametrize(
    ("edge", "pair"),
    [(1, (1, 1)), (2, (2, 1)), (4, (2, 2)), (6, (3, 2)), (7, (7, 1)), (8, (4, 2)), (9, (3, 3)),
     (12, (4, 3)), (16, (4, 4)), (32, (8, 4))],
)  # fmt: skip
def test_factors_are_the_closest_ones(edge: int, pair: tuple[int, int]) -> None:
    assert factors(edge) == pair


def test_factors_refuse_no_edge() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        factors(0)


@torch.no_grad()
def transposed(decoder: Decoder, width: int) -> nn.Sequential:
    """Torch's two layers with the decoder's weights, copied entry by entry."""
    a, b, c = decoder.first, decoder.second, decoder.channels
    first = nn.ConvTranspose3d(width, c, kernel_size=a, stride=a)
    second = nn.ConvTranspose3d(c, 1, kernel_size=b, stride=b)
    for d in range(a):
        for h in range(a):
            for w in range(a):
                start = ((d * a + h) * a + w) * c
                first.weight[:, :, d, h, w] = decoder.expand[start : start + c].T
    for d in range(b):
        for h in range(b):
            for w in range(b):
                second.weight[:, 0, d, h, w] = decoder.refine[(d * b + h) * b + w]
    first.bias.copy_(decoder.expand_bias)
    second.bias.copy_(decoder.refine_bias)
    return nn.Sequential(first, second)


@pytest.mark.parametrize("patch", [4, 6, 8])
def test_X9_decoder_is_two_transposed_convolutions(patch: int) -> None:
    decoder = Decoder(patch, width=10, channels=3)
    generator = torch.Generator().manual_seed(0)
    for parameter in decoder.parameters():
        parameter.data.normal_(generator=generator)
    grid = (2, 3, 1)
    tokens = torch.randn(2, 6, 10, generator=generator)
    got = decoder(tokens, grid)
    expected = transposed(decoder, 10)(tokens.transpose(1, 2).reshape(2, 10, *grid))
    assert got.shape == (2, 1, *(patch * n for n in grid))
    # fp32, sums of ten and three products in another order
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_start_is_that_of_torch() -> None:
    decoder = Decoder(8, width=64, channels=16)
    first, second = nn.ConvTranspose3d(64, 16, 4, 4), nn.ConvTranspose3d(16, 1, 2, 2)
    for ours, theirs in ((decoder.expand, first.weight), (decoder.refine, second.weight)):
        assert ours.numel() == theirs.numel()
        # the mean of 128 draws or more: four standard deviations of it
        assert float(ours.mean().abs()) < 0.2 * float(ours.abs().max())
        # both uniform, so the largest of many entries lies at the bound: 128 entries or more
        assert float(ours.abs().max()) == pytest.approx(float(theirs.abs().max()), rel=0.15)


def test_tokens_must_fill_the_grid() -> None:
    with pytest.raises(ValueError, match="5 tokens do not fill the grid"):
        Decoder(4, 6, 2)(torch.zeros(1, 5, 6), (1, 2, 3))
