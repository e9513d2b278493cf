"""Samples as scikit-learn hands them over: a list, or the one column of a table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from volta3d.errors import UsageError


def samples(given: Iterable[Any]) -> Iterable[Any]:
    """One sample after the other.

    Args:
        given: scans in a list, a Series or any other sequence; a DataFrame of one column; an array
            [n, 1] or rows of one scan each. What a sample holds is not looked at.

    Raises:
        UsageError: a single scan, or, here or on the way, several columns.
    """
    if isinstance(given, str | Path) or hasattr(given, "get_fdata"):
        raise UsageError("Embedder takes a list of scans", fix="Write [scan]")
    if hasattr(given, "columns"):  # a DataFrame: to go through it gives the columns' names
        _check_one(len(given.columns))
        column: Iterable[Any] = given[given.columns[0]]  # type: ignore[index]
        return column
    return (_cell(sample) for sample in given)


def is_missing(sample: Any) -> bool:
    """Whether it is what a table without a path has in its place: nothing, NaN, no letters."""
    if isinstance(sample, str):
        return not sample.strip()
    number = isinstance(sample, float | np.floating)
    return sample is None or sample is pd.NA or (number and bool(np.isnan(sample)))


def _cell(sample: Any) -> Any:
    """What the only column of a row holds; anything but a row stays as it is."""
    row = isinstance(sample, list | tuple) or (isinstance(sample, np.ndarray) and sample.ndim == 1)
    if not row or not any(_fits_a_table(value) for value in sample):
        return sample
    _check_one(len(sample))
    return sample[0]


def _fits_a_table(value: Any) -> bool:
    return isinstance(value, str | Path) or hasattr(value, "get_fdata") or is_missing(value)


def _check_one(count: int) -> None:
    if count != 1:
        raise UsageError(
            f"Embedder takes one column of scans, not {count}",
            fix='Choose it: table[["path"]], or a ColumnTransformer with the columns ["path"]',
        )
