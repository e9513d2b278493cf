"""Numbers as text."""

from __future__ import annotations

import math

import pytest

from volta3d.evaluate.text_table import p_text


@pytest.mark.parametrize(
    ("p", "said"),
    [
        (0.04, "0.040"),
        (0.0004, "<0.001"),
        (0.0, "<0.001"),
        (math.nan, "undefined"),
        (None, "undefined"),
    ],
)
def test_a_small_p_is_no_zero(p: float | None, said: str) -> None:
    assert p_text(p) == said
