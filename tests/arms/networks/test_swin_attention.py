"""Window attention by groups computes what MONAI's computes, forward and backward."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets.swin_unetr import (
    SwinTransformer,
    SwinTransformerBlock,
    compute_mask,
    get_window_size,
)

from volta3d.arms.networks.swin_attention import LeanSwinBlock, lean
from volta3d.arms.networks.swin_windows import plan

GRIDS = [(6, 6, 6), (4, 4, 4), (7, 5, 3), (3, 3, 3), (2, 2, 2), (8, 3, 2)]


def twins(shift: int) -> tuple[SwinTransformerBlock, SwinTransformerBlock]:
    """MONAI's block and ours with the same weights, those of a block in training."""
    torch.manual_seed(0)
    made = [SwinTransformerBlock(12, 3, (3, 3, 3), (shift,) * 3, qkv_bias=True) for _ in range(2)]
    theirs, ours = made
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    ours.load_state_dict(theirs.state_dict())
    assert type(lean(ours)) is LeanSwinBlock
    return theirs, ours


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("grid", GRIDS)  # whole windows, windows filled up, and clamped ones
def test_equal_forward_and_gradients(grid: tuple[int, int, int], shift: int) -> None:
    theirs, ours = twins(shift)
    x = torch.randn(3, *grid, 12)
    window, moved = get_window_size(grid, (3, 3, 3), (shift,) * 3)
    filled = [-(-g // w) * w for g, w in zip(grid, window, strict=True)]
    mask = compute_mask(filled, window, moved, x.device)
    results = []
    for block in (theirs, ours):
        given = x.clone().requires_grad_()
        told = block(given, mask)
        (told * torch.linspace(-1, 1, told.numel()).view_as(told)).sum().backward()
        results.append([told, given.grad, *(p.grad for p in block.parameters())])
    for a, b in zip(*results, strict=True):
        assert a is not None
        assert b is not None
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5 * float(a.detach().abs().max()))


@pytest.mark.parametrize("shift", [0, 3])
def test_every_token_asks_once_and_pieces_that_only_fill_up_are_left_out(shift: int) -> None:
    made = plan((8, 8, 8), (7, 7, 7), (shift,) * 3)
    assert sorted(made.queries.tolist()) == list(range(512))
    assert made.queries[made.places].tolist() == list(range(512))
    real = made.keys[made.keys < 512]
    assert sorted(real.tolist()) == list(range(512))
    pairs = sum(
        (g.queries.stop - g.queries.start) * (g.keys.stop - g.keys.start) for g in made.groups
    )
    # along an axis: 7 + 1 of 14 tokens ask 7 each; shifted, 5 ask 7 and 3 ask 3
    assert pairs == ((5 * 7 + 3 * 3) if shift else (7 * 7 + 1 * 7)) ** 3


def test_a_whole_swin_under_bf16_stays_near_fp32() -> None:
    torch.manual_seed(0)
    swin = SwinTransformer(
        in_chans=1, embed_dim=12, window_size=(3, 3, 3), patch_size=(2, 2, 2), depths=(2, 2, 2, 2),
        num_heads=(2, 2, 2, 2), spatial_dims=3,
    ).eval()  # fmt: skip
    x = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        exact = swin(x)[-1]
        assert sum(type(m) is LeanSwinBlock for m in lean(swin).modules()) == 8
        torch.testing.assert_close(swin(x)[-1], exact, rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            near = swin(x)[-1].float()
    assert float((near - exact).norm() / exact.norm()) < 0.03  # bf16 keeps 8 bits
