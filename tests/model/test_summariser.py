"""The summariser: one block over the prepended token, of which only that token goes on."""

from __future__ import annotations

import pytest
import torch

from volta3d.model.summariser import Summariser


@pytest.fixture
def summariser() -> Summariser:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Summariser(width=16, heads=8).double()


@pytest.fixture
def tokens() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 7, 16, generator=generator, dtype=torch.float64)


def test_it_is_the_first_row_of_the_whole_block(
    summariser: Summariser, tokens: torch.Tensor
) -> None:
    got = summariser(tokens)
    assert got.shape == (3, 16)
    for scan in range(3):
        sequence = torch.cat((summariser.token[0], tokens[scan]))[None]
        whole = summariser.block(sequence)[0, 0]
        torch.testing.assert_close(got[scan], whole, rtol=1e-12, atol=1e-12)


def test_the_mlp_is_four_times_as_wide_and_the_token_small(summariser: Summariser) -> None:
    assert summariser.block.mlp.up.out_features == 64
    wide = Summariser(width=2048, heads=8)
    assert float(wide.token.detach().std()) == pytest.approx(
        0.02, rel=0.1
    )  # 2048 draws: 1.6 % error


def test_every_token_counts_and_their_order_does_not(
    summariser: Summariser, tokens: torch.Tensor
) -> None:
    tokens.requires_grad_()
    got = summariser(tokens)
    (grad,) = torch.autograd.grad(got.square().sum(), tokens)
    assert (grad.abs().amax(-1) > 0).all()
    shuffled = summariser(tokens[:, torch.randperm(7)])
    torch.testing.assert_close(shuffled, got, rtol=1e-12, atol=1e-12)
