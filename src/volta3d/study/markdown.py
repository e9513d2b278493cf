"""Tables and numbers in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(c) for c in line) + " |" for line in lines)


def number(value: object, digits: int = 2) -> str:
    """A number to so many digits; "undefined" where it is none."""
    if isinstance(value, int | float) and math.isfinite(value):
        return f"{value:.{digits}f}"
    return "undefined"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
