"""Equation 5 without its logits, against the loss of the logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from volta3d.objective.alignment import TeacherTokens, patch_alignment
from volta3d.objective.center import Center
from volta3d.objective.patch import patch_loss

TOKENS, WIDTH, PROTOTYPES = 23, 6, 31


def unit(rows: int, seed: int) -> Tensor:
    drawn = torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(drawn, dim=-1)


def both(
    weights: Tensor | None, entries: int | None, dtype: torch.dtype = torch.float32
) -> tuple[list[Tensor], list[Tensor]]:
    """Loss and two gradients, ours and those of the logits."""
    center = Center(PROTOTYPES, 0.9)
    center.start(torch.linspace(-0.2, 0.2, PROTOTYPES))
    known, theirs = unit(TOKENS, 3), unit(PROTOTYPES, 4)
    teacher = TeacherTokens(known, theirs, center.value, 0.04)
    found = []
    for ours in (True, False):
        z, w = unit(TOKENS, 1).to(dtype).requires_grad_(), unit(PROTOTYPES, 2).requires_grad_()
        if ours:
            loss = patch_alignment(z, w, teacher, 0.1, weights, entries=entries)
        else:
            said = center.distributions(known @ theirs.T, 0.04)
            loss = patch_loss(
                said[None], (z.float() @ w.T)[None], 0.1, None if weights is None else weights[None]
            )
        (3.0 * loss).backward()
        assert z.grad is not None and w.grad is not None
        found.append([loss.detach(), z.grad, w.grad])
    return found[0], found[1]


@pytest.mark.parametrize("entries", [1, 4 * PROTOTYPES, None], ids=["one", "four", "all"])
@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
def test_X3_alignment_is_the_patch_loss_and_its_gradient(entries: int | None, masked: bool) -> None:
    weights = torch.arange(TOKENS) % 3 == 0 if masked else None
    ours, theirs = both(weights, entries)
    for a, b in zip(ours, theirs, strict=True):
        # sums of 31 fp32 terms of up to 10 in another order
        assert torch.allclose(a, b, atol=1e-5, rtol=1e-5)


def test_no_token_left_is_zero_with_zero_gradient() -> None:
    ours, _ = both(torch.zeros(TOKENS, dtype=torch.bool), None)
    assert all(bool((value == 0).all()) for value in ours)


def test_X11_bf16_under_autocast_is_close_and_the_sums_are_fp32() -> None:
    exact, _ = both(None, None)
    with torch.autocast("cpu", torch.bfloat16):
        z, w = unit(TOKENS, 1).requires_grad_(), unit(PROTOTYPES, 2).requires_grad_()
        center = torch.linspace(-0.2, 0.2, PROTOTYPES)
        teacher = TeacherTokens(unit(TOKENS, 3), unit(PROTOTYPES, 4), center, 0.04)
        loss = patch_alignment(z, w, teacher, 0.1)
    assert loss.dtype == torch.float32
    # logits of up to 1 rounded to 8 bits, divided by .04: distributions off by some per cent
    assert torch.allclose(loss, exact[0], rtol=0.02)
    (3.0 * loss).backward()
    assert z.grad is not None and torch.allclose(
        z.grad, exact[1], atol=0.1 * float(exact[1].abs().max())
    )


def test_extreme_logits_stay_finite() -> None:
    teacher = TeacherTokens(unit(4, 0), unit(5, 1), torch.zeros(5), 1e-4)
    z = unit(4, 2).requires_grad_()
    loss = patch_alignment(z, unit(5, 3), teacher, 1e-4)
    loss.backward()
    assert z.grad is not None and bool(z.grad.isfinite().all()) and bool(loss.isfinite())


def test_without_gradients_nothing_is_kept() -> None:
    teacher = TeacherTokens(unit(4, 0), unit(5, 1), torch.zeros(5), 0.1)
    with torch.no_grad():
        assert not patch_alignment(unit(4, 2), unit(5, 3), teacher, 0.1).requires_grad
