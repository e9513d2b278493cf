"""Values of a DICOM data set, none of which can be trusted to be there or well formed."""

from __future__ import annotations

import math
from typing import Any


def first(data: Any, name: str) -> Any:
    """The first item of a sequence, or None."""
    items = get(data, name)
    try:
        return items[0] if items else None
    except (TypeError, IndexError, KeyError):
        return None


def get(data: Any, name: str) -> Any:
    """A value, None when it is missing or malformed."""
    try:
        return None if data is None else data.get(name)
    except Exception:  # conversion of a malformed value
        return None


def text(data: Any, name: str) -> str:
    """A value as stripped text, empty when missing."""
    value = get(data, name)
    return "" if value is None else str(value).strip("\0 ")


def texts(data: Any, name: str) -> list[str]:
    """The values of an element that may hold several."""
    value = get(data, name)
    if value is None or isinstance(value, str):
        return [value] if value else []
    return [str(v) for v in value] if hasattr(value, "__iter__") else [str(value)]


def number(data: Any, name: str) -> float:
    """A finite number, else NaN."""
    try:
        value = float(get(data, name))
    except (TypeError, ValueError):
        return math.nan
    return value if math.isfinite(value) else math.nan


def either(one: float, other: float) -> float:
    """The first that is known."""
    return other if math.isnan(one) else one


def whole(data: Any, name: str, default: int = 0) -> int:
    """A whole number."""
    value = number(data, name)
    return default if math.isnan(value) else int(value)
