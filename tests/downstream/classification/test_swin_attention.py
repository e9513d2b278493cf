"""Window attention in cache computes what MONAI's computes, forward and backward."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinTransformer, WindowAttention

from volta3d.downstream.classification.swin_attention import LeanWindowAttention, lean


def twins() -> tuple[WindowAttention, WindowAttention]:
    """MONAI's layer and ours with the same weights, those of a layer in training."""
    torch.manual_seed(0)
    theirs = WindowAttention(12, 3, (3, 3, 3), qkv_bias=True)
    torch.nn.init.normal_(theirs.relative_position_bias_table)
    ours = WindowAttention(12, 3, (3, 3, 3), qkv_bias=True)
    ours.load_state_dict(theirs.state_dict())
    lean(ours)
    assert type(ours) is LeanWindowAttention
    return theirs, ours


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tokens", [27, 8])  # a whole window, and one that a small grid shrinks
def test_equal_forward_and_gradients(masked: bool, tokens: int) -> None:
    theirs, ours = twins()
    x = torch.randn(8, tokens, 12)
    mask = torch.zeros(4, tokens, tokens)
    mask[1:, :3, 3:] = -100.0  # as shifted windows have it, the first window without
    results = []
    for layer in (theirs, ours):
        given = x.clone().requires_grad_()
        told = layer(given, mask if masked else None)
        (told * torch.linspace(-1, 1, told.numel()).view_as(told)).sum().backward()
        results.append([told, given.grad, *(p.grad for p in layer.parameters())])
    for a, b in zip(*results, strict=True):
        assert a is not None
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)  # fp32 sums in another order


def test_a_whole_swin_under_bf16_stays_near_fp32() -> None:
    torch.manual_seed(0)
    swin = SwinTransformer(
        in_chans=1, embed_dim=12, window_size=(3, 3, 3), patch_size=(2, 2, 2), depths=(2, 2, 2, 2),
        num_heads=(2, 2, 2, 2), spatial_dims=3,
    ).eval()  # fmt: skip
    x = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        exact = swin(x)[-1]
        assert sum(type(m) is LeanWindowAttention for m in lean(swin).modules()) == 8
        torch.testing.assert_close(swin(x)[-1], exact, rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            near = swin(x)[-1].float()
    assert float((near - exact).norm() / exact.norm()) < 0.03  # bf16 keeps 8 bits
