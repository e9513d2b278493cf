"""Equation 5 from the heads' bottlenecks, without ever holding the logits of all tokens.

With 8192 prototypes the logits of one scan's tokens are larger than the scan. They are made for a
few tokens at a time, and the gradient with them, so that nothing has to be made twice.

Shape legend: n tokens, d bottleneck, K prototypes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

ENTRIES = {"cpu": 2**21, "cuda": 2**26}  # logits held at a time: fp32 within a CPU's cache


@dataclass
class TeacherTokens:
    """What the teacher says of every token, before it is compared with the prototypes.

    Args:
        bottleneck: of unit length [n, d].
        prototypes: rows of unit length [K, d].
        center: of the logits [K].
        temperature: the teacher's.
    """

    bottleneck: Tensor
    prototypes: Tensor
    center: Tensor
    temperature: float


def patch_alignment(
    student: Tensor,
    prototypes: Tensor,
    teacher: TeacherTokens,
    temperature: float,
    weights: Tensor | None = None,
    *,
    entries: int | None = None,
) -> Tensor:
    """L_patch, equal to ``patch_loss`` of the logits, value and gradient.

    Args:
        student: bottleneck of unit length [n, d].
        prototypes: the student's, rows of unit length [K, d].
        teacher: its side; no gradient passes through it.
        temperature: the student's.
        weights: [n], what each token counts; all the same when None. They need not sum to one;
            with no token left the loss is 0.
        entries: logits held at a time; by the device when None.

    Returns:
        A scalar in fp32. Products run in the precision of autocast, the rest in fp32.

    Source: paper equation 5; the gradient of cross-entropy in its logits, softmax minus target.
    """
    device = student.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    rows = max(1, (entries or ENTRIES.get(device, 2**24)) // len(prototypes))
    if weights is None:
        weights = student.new_full((len(student),), 1 / max(len(student), 1), dtype=torch.float32)
    else:
        weights = weights.float() / weights.sum().clamp(min=1)
    with torch.autocast(device, enabled=False):
        loss: Tensor = _Alignment.apply(
            student, prototypes, teacher, temperature, weights, rows, dtype or student.dtype
        )
    return loss


class _Alignment(torch.autograd.Function):
    """Loss and gradients chunk by chunk; the backward pass only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        prototypes: Tensor,
        teacher: TeacherTokens,
        temperature: float,
        weights: Tensor,
        rows: int,
        dtype: torch.dtype,
    ) -> Tensor:
        wanted = any(ctx.needs_input_grad[:2])
        ours, theirs = prototypes.to(dtype), teacher.prototypes.to(dtype)
        known = teacher.bottleneck.to(dtype)
        z = student.to(dtype)
        total = weights.new_zeros(())
        to_student = torch.empty_like(student) if wanted else None
        to_prototypes = torch.zeros_like(prototypes) if wanted else None
        for start in range(0, len(z), rows):
            part = slice(start, start + rows)
            target = functional.linear(known[part], theirs).float().sub_(teacher.center)
            target = target.div_(teacher.temperature).softmax(-1)
            logits = functional.linear(z[part], ours).float().div_(temperature)
            chosen = torch.linalg.vecdot(target, logits)
            normaliser = logits.logsumexp(-1)
            total += torch.dot(normaliser - chosen, weights[part])
            if to_student is None or to_prototypes is None:
                continue
            gradient = logits.sub_(normaliser[:, None]).exp_().sub_(target)
            gradient = gradient.mul_((weights[part] / temperature)[:, None]).to(dtype)
            to_student[part] = gradient @ ours
            to_prototypes += gradient.T @ z[part]
        ctx.save_for_backward(to_student, to_prototypes)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        kept = [None if g is None else g * gradients[0] for g in ctx.saved_tensors]
        return kept[0], kept[1], None, None, None, None, None
