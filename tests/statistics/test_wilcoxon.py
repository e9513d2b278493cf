"""Signed ranks against counting all signs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from volta3d.statistics.wilcoxon import signed_rank


def test_signed_rank_by_counting_all_signs() -> None:
    difference = np.array([1.0, 2, 3, -4, 5, 6])
    total = sum(rank for rank, d in zip(range(1, 7), difference, strict=True) if d > 0)
    extreme = 0
    for signs in range(64):
        t = sum(r for r in range(1, 7) if signs >> (r - 1) & 1)
        extreme += abs(t - 10.5) >= abs(total - 10.5)
    assert signed_rank(difference, np.zeros(6)) == pytest.approx(extreme / 64)
    assert signed_rank(np.ones(6), np.ones(6)) == 1.0
    assert math.isnan(signed_rank(np.array([1.0, np.nan]), np.zeros(2)))
    # five pairs can never reach .05, as METHOD says
    assert signed_rank(np.arange(1.0, 6), np.zeros(5)) == pytest.approx(0.0625)
