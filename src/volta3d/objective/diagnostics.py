"""Is the teacher informative, are the features alive? Short measures for monitors and reports.

Shape legend: n scans, d feature dimensions, K prototypes. All are computed in fp64 and return plain
numbers; NaN where a measure is undefined. Source: METHOD sections 6 and 10.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def information(probabilities: Tensor) -> dict[str, float]:
    """What the teacher's distributions [n, K] say about which scan they belong to.

    Returns:
        ``information``: H(mean p) - mean H(p) in nat, the mutual information between scan and
        prototype; 0 when every scan gets one and the same distribution, whichever it is.
        ``teacher_entropy``: mean H(p) / ln K, 1 for uniform, 0 for single prototypes.
        ``mean_entropy``: H(mean p) / ln K, 1 when the scans together use all prototypes evenly.
        ``prototypes_used``: how many prototypes are the likeliest of at least one scan.

    Raises:
        ValueError: not [n, K] with K at least 2.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] < 2 or not len(probabilities):
        raise ValueError(f"wanted probabilities [n, K], got {tuple(probabilities.shape)}")
    p = probabilities.detach().double()
    p = p / p.sum(1, keepdim=True)  # rows of fp32 sum to 1 only within 1e-6
    mean = p.mean(0)
    each = torch.special.entr(p).sum(1).mean()
    together = torch.special.entr(mean).sum()
    largest = math.log(p.shape[1])
    return {
        "information": max(0.0, float(together - each)),  # Jensen: negative only by rounding
        "teacher_entropy": float(each) / largest,
        "mean_entropy": float(together) / largest,
        "prototypes_used": len(p.argmax(1).unique()),
    }


def feature_std(features: Tensor) -> float:
    """Standard deviation over the scans, averaged over the dimensions of features [n, d]."""
    if len(features) < 2:
        return math.nan
    return float(features.detach().double().std(0).mean())


def effective_rank(features: Tensor) -> float:
    """exp of the entropy of the normalised singular values of the centred features [n, d].

    From 1 (all scans on a line) to min(n - 1, d); 0 when all scans have the same features. Singular
    values no larger than the rounding error of the features themselves count as 0.

    Source: Roy and Vetterli, "The effective rank", 2007.
    """
    rounding = torch.finfo(features.dtype).eps
    x = features.detach().double()
    values = torch.linalg.svdvals(x - x.mean(0))
    values = values[values > rounding * x.norm()]
    if not len(values):
        return 0.0
    return float(torch.special.entr(values / values.sum()).sum().exp())


def mean_offdiagonal_cosine(features: Tensor) -> float:
    """Mean cosine between the features [n, d] of different scans; 1 when all point one way."""
    n = len(features)
    if n < 2:
        return math.nan
    unit = torch.nn.functional.normalize(features.detach().double(), dim=1)
    # the sum of all n² cosines is |sum of the unit vectors|²
    pairs = unit.sum(0).square().sum() - unit.square().sum()
    return float(pairs) / (n * (n - 1))


def icc(features: Tensor) -> float:
    """Share of the variance of features [views, n, d] that lies between scans.

    ICC(1) of a one-way random-effects analysis of variance with scans as groups and views as
    repeats, sums of squares added over the dimensions: 1 when views of a scan agree and scans
    differ, about 0 (or a little below) when views differ as much as scans do; NaN when nothing
    varies at all.

    Raises:
        ValueError: fewer than 2 views.

    Source: Shrout and Fleiss, 1979, case 1; METHOD section 10.
    """
    if features.ndim != 3 or features.shape[0] < 2:
        raise ValueError(f"wanted features [views, n, d], got {tuple(features.shape)}")
    views, n, _ = features.shape
    if n < 2:
        return math.nan
    x = features.detach().double()
    scans = x.mean(0)
    between = float(views * (scans - scans.mean(0)).square().sum()) / (n - 1)
    within = float((x - scans).square().sum()) / (n * (views - 1))
    total = between + (views - 1) * within
    return (between - within) / total if total > 0 else math.nan


def retrieval(features: Tensor) -> float:
    """How often the nearest of all other views is the other view of the same scan.

    Nearest by cosine, after what all views share is taken off. By chance 1 / (2 n - 1).

    Args:
        features: [2, n, d], two views of n scans.

    Returns:
        Between 0 and 1, over the 2 n views; NaN for a single scan.

    Raises:
        ValueError: not two views.
    """
    if features.ndim != 3 or features.shape[0] != 2:
        raise ValueError(f"wanted features [2, n, d], got {tuple(features.shape)}")
    n = features.shape[1]
    if n < 2:
        return math.nan
    x = features.detach().double().flatten(0, 1)
    unit = torch.nn.functional.normalize(x - x.mean(0), dim=1)
    cosines = unit @ unit.T
    cosines.fill_diagonal_(-2.0)
    other = torch.arange(2 * n).roll(n)
    return float((cosines.argmax(1) == other).double().mean())


def advantage(log_probabilities: Tensor) -> tuple[float, float, float]:
    """Whether two views of a scan get more alike answers than views of different scans.

    Args:
        log_probabilities: log p [2, n, K], the teacher's of two views of n scans.

    Returns:
        The mean cross-entropy H(p_1, p_2) within a scan and between scans, in nat, both ways round,
        and the mean difference of a scan's two, divided by its standard error over scans: about 0
        for answers that have nothing to do with the scan, whether they differ or not. NaN for a
        single scan.

    Raises:
        ValueError: not two views.
    """
    if log_probabilities.ndim != 3 or log_probabilities.shape[0] != 2:
        raise ValueError(f"wanted log p [2, n, K], got {tuple(log_probabilities.shape)}")
    logs = log_probabilities.detach().double()
    n = logs.shape[1]
    if n < 2:
        return math.nan, math.nan, math.nan
    finite = logs.clamp_min(-700.0)  # of a probability that was rounded to 0
    pairs = -(logs[0].exp() @ finite[1].T) - finite[0] @ logs[1].exp().T  # [view 1 of, view 2 of]
    pairs = pairs / 2
    within = pairs.diagonal()
    others = (pairs.sum(0) + pairs.sum(1) - 2 * within) / (2 * (n - 1))
    gain = others - within
    error = float(gain.std()) / math.sqrt(n)
    return float(within.mean()), float(others.mean()), float(gain.mean()) / max(error, 1e-12)
