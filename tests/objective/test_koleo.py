"""KoLeo against a loop written from its definition."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from volta3d.objective.koleo import koleo_loss


def by_loop(features: Tensor) -> Tensor:
    """- mean over views and scans of ln min distance to another scan of the same view."""
    terms = []
    for view in features:
        unit = [f / f.norm() for f in view]
        for i, own in enumerate(unit):
            others = [(own - other).norm() for j, other in enumerate(unit) if j != i]
            terms.append(-torch.stack(others).min().log())
    return torch.stack(terms).mean()


def test_koleo_equals_a_loop_forward_and_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 7, 5, generator=generator)
    ours, theirs = features.clone().requires_grad_(), features.clone().requires_grad_()
    koleo_loss(ours).backward()
    by_loop(theirs).backward()
    assert torch.allclose(koleo_loss(ours), by_loop(theirs), atol=1e-6)
    assert ours.grad is not None and theirs.grad is not None
    # the loop's gradient also flows through the neighbour, as ours does; 1e-5: fp32 rounding
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)


def test_a_step_downhill_moves_scans_apart() -> None:
    features = torch.tensor([[[1.0, 0.0], [0.99, 0.14]]] * 2).requires_grad_()
    before = koleo_loss(features)
    before.backward()
    assert features.grad is not None
    assert koleo_loss(features.detach() - 0.01 * features.grad) < before


def test_the_two_views_of_a_scan_may_coincide() -> None:
    view = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(koleo_loss(view.expand(2, -1, -1)), by_loop(view))


def test_a_single_scan_has_no_neighbour_and_coinciding_scans_stay_finite() -> None:
    assert float(koleo_loss(torch.ones(2, 1, 3))) == 0.0
    same = torch.ones(2, 3, 4, requires_grad=True)
    loss = koleo_loss(same)
    loss.backward()
    assert (
        math.isfinite(float(loss.detach())) and same.grad is not None and same.grad.isfinite().all()
    )
