"""Centre and standardiser against their closed forms."""

from __future__ import annotations

import torch

from volta3d.objective.center import Center, Standardiser


def test_X4_center_follows_its_closed_form() -> None:
    """c_n = m^n c_0 + (1 - m) sum m^(n-1-i) mean_i."""
    center, means = Center(3, 0.9), torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    for mean in means:
        center.update(mean)
    expected = sum(0.1 * 0.9 ** (4 - i) * means[i] for i in range(5))
    torch.testing.assert_close(center.value, torch.as_tensor(expected))


def test_distributions_center_then_sharpen() -> None:
    center = Center(3, 0.9)
    center.start(torch.tensor([1.0, 0.0, -1.0]))
    logits = torch.tensor([[1.5, 0.0, -1.0]], requires_grad=True)
    found = center.distributions(logits, 0.5)
    e = torch.exp(torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(found[0], e / e.sum())
    assert not found.requires_grad


def test_standardiser_makes_the_teacher_moments_zero_and_one() -> None:
    values = torch.randn(4000, 6, generator=torch.Generator().manual_seed(0)) * 3 + 5
    standardiser = Standardiser(6, 0.9, 1e-6)
    standardiser.start(values.mean(0), values.square().mean(0))
    after = standardiser(values)
    torch.testing.assert_close(after.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(after.var(0), torch.ones(6), atol=2e-3, rtol=0)


def test_standardiser_moves_by_its_momentum() -> None:
    standardiser = Standardiser(2, 0.9, 0.1)
    standardiser.update(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 8.0]))
    torch.testing.assert_close(standardiser.mean, torch.tensor([0.1, 0.2]))
    torch.testing.assert_close(standardiser.variance, torch.tensor([0.9 + 0.1, 0.9 + 0.4]))


def test_standardiser_passes_gradient_to_its_input_only() -> None:
    standardiser = Standardiser(2, 0.9, 0.1)
    value = torch.randn(3, 2, requires_grad=True)
    standardiser(value).sum().backward()
    assert value.grad is not None
    assert not any(b.requires_grad for b in standardiser.buffers())
