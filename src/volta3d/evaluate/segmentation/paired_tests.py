"""Paired tests between arms: only cases that both were scored on, averaged by subject."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from volta3d.statistics.holm import holm
from volta3d.statistics.intervals import interval, resample_subjects
from volta3d.statistics.weighted import mean_of
from volta3d.statistics.wilcoxon import signed_rank

TESTED = ("dice", "hd95_mm")
RESAMPLES = 2000
DIGITS = 12  # differences are rounded to, so that sums in another order keep ties and zeros


def paired_tests(cases: pd.DataFrame, seed: int = 0) -> list[dict[str, Any]]:
    """Every two arms on Dice and HD95, Holm over all of them.

    Args:
        cases: one row a case and arm: ``arm``, ``case``, ``subject``, ``dice``, ``hd95_mm``.
        seed: of the bootstrap.

    Returns:
        ``metric``, ``first``, ``second``, ``cases`` that have the metric in both arms, ``n`` of
        their subjects, the mean of the subjects' ``difference`` (first - second) with ``low`` and
        ``high`` of its bootstrap interval, ``median_difference``, ``p`` of Wilcoxon's signed-rank
        test and ``p_holm``.
    """
    return _corrected([row for metric in TESTED for row in _of_metric(cases, metric, seed)])


def structure_tests(cases: pd.DataFrame, seed: int = 0) -> list[dict[str, Any]]:
    """The same for each structure by itself, Holm over all structures and pairs of a metric.

    Args:
        cases: as for ``paired_tests``, one row a case, arm and ``structure``.
        seed: of the bootstrap.

    Returns:
        Rows as there, and ``structure``; none for a single structure, whose tests are those of the
        mean.
    """
    structures = list(dict.fromkeys(cases["structure"]))
    found: list[dict[str, Any]] = []
    for metric in TESTED if len(structures) > 1 else ():
        family = [
            {"structure": name, **row}
            for name in structures
            for row in _of_metric(cases[cases["structure"] == name], metric, seed)
        ]
        found += _corrected(family)
    return found


def differences(cases: pd.DataFrame, metric: str, first: str, second: str) -> pd.DataFrame:
    """``subject`` and ``difference`` of each case that has the metric in both arms."""
    one, other = (cases[cases["arm"] == arm].set_index("case") for arm in (first, second))
    between = (one[metric] - other[metric]).astype(np.float64).round(DIGITS)
    between = between[np.isfinite(between)]
    return pd.DataFrame({"subject": one["subject"].reindex(between.index), "difference": between})


def _of_metric(cases: pd.DataFrame, metric: str, seed: int) -> Iterable[dict[str, Any]]:
    for first, second in combinations(dict.fromkeys(cases["arm"]), 2):
        pairs = differences(cases, metric, first, second)
        by_subject = pairs.groupby("subject", sort=True)["difference"].mean().round(DIGITS)
        values = by_subject.to_numpy(np.float64)
        mean = low = high = median = np.nan
        if len(values):
            weights = resample_subjects(by_subject.index.to_numpy(), RESAMPLES, seed)
            mean, low, high = interval(mean_of(values), weights)
            median = float(np.median(values))
        yield {
            "metric": metric,
            "first": first,
            "second": second,
            "cases": len(pairs),
            "n": len(values),
            "difference": mean,
            "low": low,
            "high": high,
            "median_difference": median,
            "p": signed_rank(values, np.zeros(len(values))),
        }


def _corrected(family: list[dict[str, Any]]) -> list[dict[str, Any]]:
    adjusted = holm([row["p"] for row in family])
    return [{**row, "p_holm": p} for row, p in zip(family, adjusted, strict=True)]
