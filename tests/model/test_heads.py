"""The projection head: normalisations, gain, start, extreme values."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from volta3d.model.heads import ProjectionHead, Prototypes, unit


@pytest.fixture
def head() -> ProjectionHead:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ProjectionHead(width=12, hidden=32, bottleneck=8, prototypes=20)


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_logits_are_cosines_with_the_prototypes(
    head: ProjectionHead, features: torch.Tensor
) -> None:
    narrow = head.bottleneck(features)
    assert narrow.shape == (2, 5, 8)
    got = head(features)
    assert got.shape == (2, 5, 20)
    assert torch.equal(got, head.logits(narrow))
    for b in range(2):
        for t in range(5):
            for k in range(20):
                direction = head.last_layer.direction[k]
                cosine = narrow[b, t] @ direction / narrow[b, t].norm() / direction.norm()
                assert float(got[b, t, k]) == pytest.approx(float(cosine), abs=1e-6)


def test_last_layer_is_torch_weight_norm_with_gain_one() -> None:
    ours = Prototypes(8, 20).double()
    linear = nn.Linear(8, 20, bias=False).double()
    linear.weight.data.copy_(ours.direction)
    theirs = nn.utils.parametrizations.weight_norm(linear)
    gain = theirs.parametrizations.weight.original0
    gain.data.fill_(1.0)
    x = torch.randn(4, 8, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)
    ours(x).square().sum().backward()
    theirs(x).square().sum().backward()
    expected = theirs.parametrizations.weight.original1.grad
    torch.testing.assert_close(ours.direction.grad, expected, rtol=1e-5, atol=1e-6)


def test_the_gain_is_fixed_at_one(head: ProjectionHead) -> None:
    assert {name for name, _ in head.last_layer.named_parameters()} == {"direction"}
    before = head.last_layer.weight()
    torch.testing.assert_close(before.norm(dim=1), torch.ones(20), rtol=1e-6, atol=0)
    with torch.no_grad():
        head.last_layer.direction.mul_(torch.logspace(-3, 3, 20)[:, None])
    torch.testing.assert_close(head.last_layer.weight(), before, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-15, 1e-3, 7.0, 1e18, 1e30])
def test_logits_do_not_depend_on_the_bottlenecks_length(
    head: ProjectionHead, features: torch.Tensor, scale: float
) -> None:
    narrow = head.bottleneck(features) / head.bottleneck(features).abs().max()
    torch.testing.assert_close(
        head.logits(scale * narrow), head.logits(narrow), rtol=1e-5, atol=1e-6
    )


@torch.no_grad()
def test_the_start_is_that_of_dino() -> None:
    head = ProjectionHead(width=96, hidden=128, bottleneck=64, prototypes=256)
    layers = [layer for layer in head.mlp if isinstance(layer, nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in layers] == [(128, 96), (128, 128), (64, 128)]
    for layer in layers:
        # at least 8192 draws: the estimate errs by less than one percent
        assert float(layer.weight.std()) == pytest.approx(0.02, rel=0.05)
        assert not layer.bias.any()
    # torch's start of a linear layer: uniform in +- 1/sqrt(64)
    assert float(head.last_layer.direction.abs().max()) == pytest.approx(1 / 8, rel=0.01)


@pytest.mark.parametrize("value", [3e38, 1e20, 1.0, 1e-20, 1e-38, 0.0])
def test_X11_extreme_bf16_bottlenecks_give_finite_logits(
    head: ProjectionHead, value: float
) -> None:
    signs = torch.tensor([1.0, -1.0, 1.0, 0.5, -0.25, 0.0, 1.0, 1e-3])
    narrow = (signs * value).bfloat16().requires_grad_()
    logits = head.logits(narrow)
    logits.sum().backward()
    assert logits.dtype == torch.float32
    assert logits.isfinite().all() and float(logits.detach().abs().max()) <= 1.0 + 1e-6
    assert narrow.grad is not None and not narrow.grad.isnan().any()
    assert head.last_layer.direction.grad is not None
    assert head.last_layer.direction.grad.isfinite().all()


def test_X11_under_bf16_autocast_logits_stay_near_the_exact_ones(
    head: ProjectionHead, features: torch.Tensor
) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = head(features)
        assert head(1e6 * features).isfinite().all()
    # cosines, bf16 keeps 8 bits over four products in a row
    torch.testing.assert_close(rough.float(), head(features), rtol=0, atol=0.03)


def test_unit_vectors_keep_double_precision() -> None:
    vectors = torch.randn(3, 5, dtype=torch.float64)
    got = unit(vectors)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, vectors / vectors.norm(dim=1, keepdim=True))
