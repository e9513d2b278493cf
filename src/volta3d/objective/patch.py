"""Equation 5: the patch-level alignment, token by token, of the same global view."""

from __future__ import annotations

from torch import Tensor

from volta3d.objective.cls import cross_entropy


def patch_loss(
    teacher: Tensor, logits: Tensor, temperature: float, tokens: Tensor | None = None
) -> Tensor:
    """L_patch = - 1 / (2 B T) * sum over views, scans, tokens and k of P_t log P_s.

    Args:
        teacher: the teacher's distributions [V, T, K], V = 2 B views times scans.
        logits: the student's logits [V, T, K].
        temperature: the student's.
        tokens: bool [V, T], the tokens that count; all of them when None. With no token left the
            loss is 0.

    Returns:
        A scalar in fp32.

    Source: paper equation 5, reading of METHOD section 5: all tokens; masked ones as an option.
    """
    losses = cross_entropy(teacher, logits, temperature)
    if tokens is None:
        return losses.mean()
    return (losses * tokens).sum() / tokens.sum().clamp(min=1)
