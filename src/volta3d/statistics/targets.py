"""A column of a table as what is to be predicted: numbers, or indices of classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

MIN_SCANS = 10


@dataclass(frozen=True)
class Target:
    """A column of participants.tsv as numbers.

    Args:
        known: bool [n], where there is a value.
        values: float64 [known]: the value, or the index of the class.
        classes: names of the classes in sorted order; empty for a continuous target.
    """

    known: np.ndarray
    values: np.ndarray
    classes: tuple[str, ...]

    @classmethod
    def read(cls, column: Any) -> Target:
        """Text is a class, numbers are continuous; numbers with two values are classes too.

        Text that holds more than ten different numbers is continuous as well.
        """
        given = np.asarray(column, dtype=object)
        known = np.array([not (v is None or v != v or str(v).strip() == "") for v in given], bool)
        values = given[known]
        text = any(isinstance(v, str) for v in values)
        try:
            numbers = values.astype(np.float64)
        except (TypeError, ValueError):
            numbers = np.empty(0)
        if len(numbers) == len(values) and len(set(values)) > (10 if text else 2):
            finite = np.isfinite(numbers)
            known[known] = finite
            return cls(known, numbers[finite], ())
        names = [str(v).strip() for v in values]
        classes = tuple(sorted(set(names)))
        return cls(known, np.array([classes.index(v) for v in names], np.float64), classes)

    @property
    def usable(self) -> bool:
        """Whether there is something to predict."""
        return len(self.values) >= MIN_SCANS and len(np.unique(self.values)) > 1
