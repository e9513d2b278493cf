"""Holm against the procedure itself."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volta3d.statistics.holm import holm


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=0, max_size=7), st.floats(0.001, 0.3))
def test_holm_rejects_what_the_step_down_procedure_rejects(p: list[float], level: float) -> None:
    """The procedure: go up from the smallest p while p < level / (tests left), then stop."""
    rejected, left = set(), len(p)
    for index in sorted(range(len(p)), key=lambda i: p[i]):
        if p[index] * left > level:
            break
        rejected.add(index)
        left -= 1
    adjusted = holm(p)
    assert {i for i, a in enumerate(adjusted) if a <= level} == rejected
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))


def test_holm_by_hand_and_with_tests_that_could_not_be_made() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    found = holm([math.nan, 0.01, math.nan, 0.5])
    assert math.isnan(found[0]) and found[1] == pytest.approx(0.02) and found[3] == 0.5
