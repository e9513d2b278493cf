"""How the arms of a comparison look: one colour and mark each, the same in every figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from volta3d.report.style import MARKERS, SERIES

VOLUME = 2  # of SERIES and MARKERS, as in the probes' figures
OTHERS = (0, 1, 3, 4, 5, 7)
LABEL = 24  # letters of a name that fit


def looks(arms: Sequence[str], volume: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Colour and marker of each arm; those that know volume alone look alike everywhere."""
    found: dict[str, dict[str, Any]] = {}
    free = iter(OTHERS * (1 + len(arms) // len(OTHERS)))
    for arm in arms:
        number = VOLUME if arm in volume else next(free)
        marker = "D" if arm in volume else MARKERS[number].replace("D", "X")
        found[arm] = {"color": SERIES[number], "marker": marker}
    return found


def short(arm: str) -> str:
    """A name for a legend."""
    return arm if len(arm) <= LABEL else arm[: LABEL - 1] + "…"
