"""Equations 2 and 3: the CLS-level alignment of every student view with every other global view."""

from __future__ import annotations

from torch import Tensor


def cross_entropy(teacher: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """H(p, z) = - sum_k p_k log softmax(z / temperature)_k, without building the log-softmax.

    Args:
        teacher: distributions p [..., K] that sum to one; no gradient passes through them.
        logits: student logits z [..., K].

    Returns:
        [...] in fp32.

    Source: paper equation 2.
    """
    scaled = logits.float() / temperature
    return scaled.logsumexp(-1) - (teacher.detach() * scaled).sum(-1)


def cls_loss(teacher: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """L_cls = 1 / (2 (N + 1)) * sum over g in {1, 2}, v != g of mean_B H(p_g, z_v).

    Args:
        teacher: the teacher's distributions of the two global views [2, B, K].
        logits: the student's logits of all views [2 + N, B, K], globals first, in the same order.
        temperature: the student's.

    Returns:
        A scalar in fp32.

    Raises:
        ValueError: the shapes do not fit.

    Source: paper equation 3.
    """
    views, scans, prototypes = logits.shape
    if teacher.shape != (2, scans, prototypes) or views < 2:
        raise ValueError(f"teacher {[*teacher.shape]} does not fit logits {[*logits.shape]}")
    pairs = [
        cross_entropy(teacher[g], logits[v], temperature).mean()
        for g in range(2)
        for v in range(views)
        if v != g
    ]
    return sum(pairs[1:], start=pairs[0]) / len(pairs)
