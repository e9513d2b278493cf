"""Numbers and tables as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """With so many digits; ``undefined`` for None and NaN."""
    if value is None or value != value:
        return "undefined"
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def p_text(value: float | None) -> str:
    """A p-value for reading: three digits, and never a zero that it is not."""
    if value is None or value != value:
        return "undefined"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells, each column as wide as its widest cell."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return [
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines
    ]
