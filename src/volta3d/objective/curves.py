"""The two curves that scheduled values follow."""

from __future__ import annotations

import math


def cosine(start: float, end: float, fraction: float) -> float:
    """Half a cosine from ``start`` at fraction 0 to ``end`` at fraction 1."""
    fraction = min(max(fraction, 0.0), 1.0)
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * fraction))


def linear(start: float, end: float, fraction: float) -> float:
    """A straight line from ``start`` at fraction 0 to ``end`` at fraction 1, flat outside."""
    return start + (end - start) * min(max(fraction, 0.0), 1.0)
