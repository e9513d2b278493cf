"""The three losses against loops written from the equations, forward and gradient."""

from __future__ import annotations

import math

import pytest
import torch

from volta3d.objective.cls import cls_loss, cross_entropy
from volta3d.objective.patch import patch_loss
from volta3d.objective.reconstruction import foreground_error, reconstruction_loss

TOLERANCE = 1e-6  # fp32 sums over a few thousand terms


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a.double(), b.double(), rtol=TOLERANCE, atol=TOLERANCE)


def _loop_cls(teacher: torch.Tensor, logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Equation 3 term by term in float64."""
    views, scans, prototypes = logits.shape
    total = torch.zeros((), dtype=torch.float64)
    pairs = 0
    for g in range(2):
        for v in range(views):
            if v == g:
                continue
            mean = torch.zeros((), dtype=torch.float64)
            for b in range(scans):
                z = logits[v, b].double() / temperature
                log_norm = torch.log(torch.exp(z).sum())
                for k in range(prototypes):
                    mean = mean - teacher[g, b, k].double() * (z[k] - log_norm)
            total = total + mean / scans
            pairs += 1
    assert pairs == 2 * (views - 1)
    return total / pairs


@pytest.mark.parametrize("locals_", [0, 1, 3])
def test_X1_cls_loss_equals_a_loop_forward_and_gradient(locals_: int) -> None:
    teacher = torch.rand(2, 3, 5, generator=_generator()).softmax(-1)
    logits = torch.randn(2 + locals_, 3, 5, generator=_generator(1))
    ours, loop = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    a, b = cls_loss(teacher, ours, 0.1), _loop_cls(teacher, loop, 0.1)
    _close(a, b)
    a.backward()
    b.backward()
    assert ours.grad is not None and loop.grad is not None
    _close(ours.grad, loop.grad)


def test_X2_same_view_pairs_are_skipped() -> None:
    """Without locals, view 1 meets only the teacher's view 2: changing p_1 leaves z_1 alone."""
    teacher = torch.rand(2, 2, 4, generator=_generator()).softmax(-1)
    other = teacher.clone()
    other[0] = torch.rand(2, 4, generator=_generator(5)).softmax(-1)
    gradients = []
    for p in (teacher, other):
        logits = torch.randn(2, 2, 4, generator=_generator(1)).requires_grad_()
        cls_loss(p, logits, 0.1).backward()
        assert logits.grad is not None
        gradients.append(logits.grad)
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert not torch.equal(gradients[0][1], gradients[1][1])


def test_cls_loss_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        cls_loss(torch.rand(2, 3, 4), torch.rand(2, 3, 5), 0.1)


@pytest.mark.parametrize("masked", [False, True])
def test_X3_patch_loss_equals_a_loop_forward_and_gradient(masked: bool) -> None:
    teacher = torch.rand(4, 3, 5, generator=_generator()).softmax(-1)
    logits = torch.randn(4, 3, 5, generator=_generator(1))
    tokens = torch.rand(4, 3, generator=_generator(2)) > 0.5 if masked else None
    ours, loop = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    a = patch_loss(teacher, ours, 0.1, tokens)
    b, count = torch.zeros((), dtype=torch.float64), 0
    for v in range(4):
        for t in range(3):
            if tokens is not None and not tokens[v, t]:
                continue
            count += 1
            z = loop[v, t].double() / 0.1
            b = b - (teacher[v, t].double() * (z - torch.log(torch.exp(z).sum()))).sum()
    b = b / count
    _close(a, b)
    a.backward()
    b.backward()
    assert ours.grad is not None and loop.grad is not None
    _close(ours.grad, loop.grad)


def test_X5_reconstruction_equals_a_loop_and_unmasked_voxels_get_zero_gradient() -> None:
    target = torch.rand(2, 1, 4, 4, 4, generator=_generator())
    rebuilt = torch.rand(2, 1, 4, 4, 4, generator=_generator(1)).requires_grad_()
    mask = torch.rand(2, 1, 4, 4, 4, generator=_generator(2)) > 0.5
    loss = reconstruction_loss(rebuilt, target, mask)
    total, count = 0.0, 0
    for x_hat, x, m in zip(
        rebuilt.detach().flatten().tolist(),
        target.flatten().tolist(),
        mask.flatten().tolist(),
        strict=True,
    ):
        if m:
            total, count = total + (x_hat - x) ** 2, count + 1
    assert math.isclose(loss.item(), total / count, rel_tol=TOLERANCE)
    loss.backward()
    assert rebuilt.grad is not None
    assert bool((rebuilt.grad[~mask] == 0).all())
    expected = 2 * (rebuilt.detach() - target) / count
    _close(rebuilt.grad[mask], expected[mask])


def test_reconstruction_of_an_empty_mask_is_zero_and_finite() -> None:
    volume = torch.rand(1, 1, 2, 2, 2)
    mask = torch.zeros_like(volume, dtype=torch.bool)
    assert float(reconstruction_loss(volume, volume + 1, mask)) == 0.0


def test_foreground_error_leaves_background_out() -> None:
    target = torch.tensor([0.0, 1.0, 0.0, 1.0]).view(1, 1, 1, 2, 2)
    rebuilt = torch.tensor([5.0, 2.0, 5.0, 1.0]).view(1, 1, 1, 2, 2)
    mask = torch.tensor([True, True, False, False]).view(1, 1, 1, 2, 2)
    threshold = torch.full((1, 1, 1, 1, 1), 0.5)
    assert float(foreground_error(rebuilt, target, mask, threshold)) == 1.0


def test_X11_extreme_logits_and_bf16_stay_finite() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        logits = torch.tensor([[1e4, -1e4, 0.0]], dtype=dtype).requires_grad_()
        teacher = torch.tensor([[0.0, 1.0, 0.0]])
        loss = cross_entropy(teacher, logits, 0.02)
        assert loss.dtype == torch.float32 and bool(loss.isfinite().all())
        loss.sum().backward()
        assert logits.grad is not None and bool(logits.grad.isfinite().all())


def test_no_gradient_reaches_the_teacher() -> None:
    teacher = torch.rand(2, 2, 4).softmax(-1).requires_grad_()
    logits = torch.randn(2, 2, 4).requires_grad_()
    cls_loss(teacher, logits, 0.1).backward()
    assert teacher.grad is None


def test_gradcheck_of_the_losses_in_float64() -> None:
    """The losses compute in fp32 inside, so the check steps coarsely and tolerates 1e-3."""
    teacher = torch.rand(2, 2, 3).softmax(-1)
    logits = torch.randn(3, 2, 3, generator=_generator()).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: cls_loss(teacher, z, 1.0), (logits,), eps=1e-2, atol=1e-3, rtol=1e-2
    )
