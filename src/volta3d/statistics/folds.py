"""Splits drawn: stratified folds of whole subjects, a hold-out, or one fold a site."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from volta3d.errors import UsageError
from volta3d.randomness import numpy_generator
from volta3d.statistics.splits import FINAL, NEVER, Splits
from volta3d.statistics.subject_folds import subject_folds

QUANTILES = 5  # strata of a number


def k_fold(
    values: Mapping[str, float],
    *,
    folds: int,
    seed: int,
    categorical: bool,
    seeds: Sequence[int] = (0,),
    about: Mapping[str, Any] | None = None,
) -> Splits:
    """Stratified folds of whole subjects.

    Args:
        values: subject to its class, or to its (mean) number.
        folds: how many.
        seed: of the assignment to folds.
        categorical: whether values are classes.
        seeds: for each of these an order of the training parts is drawn.
        about: see ``Splits``.

    Raises:
        UsageError: fewer than two folds, fewer subjects than folds, or a class with fewer.
    """
    subjects = sorted(values)
    numbers = np.array([values[s] for s in subjects], np.float64)
    strata = _strata(subjects, numbers, categorical)
    _check_counts(strata, folds, categorical)
    dealt = subject_folds(
        numbers, np.array(subjects, object), folds=folds, seed=seed, categorical=categorical
    )
    fold = {s: int(f) for s, f in zip(subjects, dealt, strict=True)}
    return _with_orders(folds, seed, strata, fold, seeds, about)


def hold_out(
    values: Mapping[str, float],
    *,
    fraction: float,
    seed: int,
    categorical: bool,
    seeds: Sequence[int] = (0,),
    about: Mapping[str, Any] | None = None,
) -> Splits:
    """A stratified part of the subjects set aside as fold 0; the others are never tested.

    Args:
        fraction: of the subjects, rounded, at least one.
        values, seed, categorical, seeds, about: see ``k_fold``.

    Raises:
        UsageError: a fraction that leaves nobody on one side.
    """
    subjects = sorted(values)
    count = max(1, math.floor(fraction * len(subjects) + 0.5))
    if not 0 < fraction < 1 or count >= len(subjects):
        raise UsageError(
            f"A hold-out of {fraction} of {len(subjects)} subjects leaves one side empty",
            fix="Use a fraction such as 0.2, and more subjects",
        )
    strata = _strata(subjects, np.array([values[s] for s in subjects]), categorical)
    order = _nested(subjects, strata, seed, "hold-out")
    held = set(order[:count])
    fold = {s: 0 if s in held else NEVER for s in subjects}
    return _with_orders(1, seed, strata, fold, seeds, about)


def leave_one_out_folds(
    values: Mapping[str, float],
    levels: Iterable[tuple[str, str]],
    *,
    column: str,
    seed: int,
    categorical: bool,
    seeds: Sequence[int] = (0,),
    about: Mapping[str, Any] | None = None,
) -> Splits:
    """One fold for each level of a column, such as a site: tested there, fitted on all others.

    Args:
        values: subject to its class, or to its (mean) number.
        levels: (subject, level) of each scan; of subjects without a value they are passed over.
        column: what the levels are called, for the reader.
        seed, categorical, seeds: see ``k_fold``.
        about: see ``Splits``; ``folds_by`` (the column) and ``levels`` (in the order of the folds)
            are added.

    Raises:
        UsageError: a subject without a level or with two, fewer than two levels, or a class that
            only one of them has.
    """
    level_of = _one_level_each(values, levels, column)
    names = sorted(set(level_of.values()))
    if len(names) < 2:
        raise UsageError(
            f"Folds by {column} need at least two values of it, and all subjects have '{names[0]}'",
            where=column,
            fix="Choose another column, or use --folds 5",
        )
    for value in sorted(set(values.values())) if categorical else ():
        having = {level_of[s] for s, own in values.items() if own == value}
        if len(having) == 1:
            raise UsageError(
                f"Class {int(value)} is only in {column} '{having.pop()}': a model fitted on the "
                "others cannot know it",
                where=column,
                fix="Choose another column, or use --folds 5",
            )
    subjects = sorted(values)
    strata = _strata(subjects, np.array([values[s] for s in subjects], np.float64), categorical)
    fold = {s: names.index(level_of[s]) for s in subjects}
    described = {**(about or {}), "folds_by": column, "levels": names}
    return _with_orders(len(names), seed, strata, fold, seeds, described)


def _one_level_each(
    values: Mapping[str, float], levels: Iterable[tuple[str, str]], column: str
) -> dict[str, str]:
    found: dict[str, str] = {}
    for subject, level in levels:
        if subject not in values or not level.strip():
            continue
        if found.setdefault(subject, level.strip()) != level.strip():
            raise UsageError(
                f"{subject} has scans of {column} '{found[subject]}' and of '{level.strip()}', and "
                "a person is tested in one fold",
                where=column,
                fix="Leave the scans of one of them out of the cohort",
            )
    unknown = sorted(set(values) - set(found))
    if unknown:
        raise UsageError(
            f"The {column} of {len(unknown)} subjects is not known, the first is {unknown[0]}",
            where=column,
            fix="Fill the column in the source's participants.tsv and prepare again, or leave "
            "these scans out",
        )
    return found


def _with_orders(
    folds: int,
    seed: int,
    strata: dict[str, str],
    fold: dict[str, int],
    seeds: Sequence[int],
    about: Mapping[str, Any] | None,
) -> Splits:
    orders = {
        s: {
            f: tuple(_nested([p for p in fold if f == FINAL or fold[p] != f], strata, seed, s, f))
            for f in (FINAL, *range(folds))
        }
        for s in seeds
    }
    return Splits(folds, seed, strata, fold, orders, dict(about or {}))


def _strata(subjects: Sequence[str], values: np.ndarray, categorical: bool) -> dict[str, str]:
    """Classes as they are; numbers by fifths of their order."""
    if categorical:
        return {s: f"class {int(v)}" for s, v in zip(subjects, values, strict=True)}
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    fifths = ranks * QUANTILES // max(1, len(values))
    return {s: f"fifth {int(f)}" for s, f in zip(subjects, fifths, strict=True)}


def _nested(
    subjects: Sequence[str], strata: Mapping[str, str], seed: int, *keys: int | str
) -> list[str]:
    """An order in which every beginning holds the strata in their shares, random within them."""
    place: dict[str, float] = {}
    for stratum in sorted(set(strata.values())):
        own = sorted(s for s in subjects if strata[s] == stratum)
        rng = numpy_generator(seed, "nested order", stratum, *keys)
        for rank, index in enumerate(rng.permutation(len(own))):
            place[own[index]] = (rank + 0.5) / len(own)
    return sorted(place, key=lambda s: (place[s], strata[s]))


def _check_counts(strata: Mapping[str, str], folds: int, categorical: bool) -> None:
    if folds < 2:
        raise UsageError("Cross-validation wants at least two folds", where=folds, fix="Use 5")
    counts = {name: list(strata.values()).count(name) for name in set(strata.values())}
    if len(strata) < folds or (categorical and min(counts.values()) < folds):
        rarest = min(counts, key=lambda name: (counts[name], name))
        what = (
            f"{len(strata)} subjects cannot be dealt to {folds} folds"
            if not categorical or len(strata) < folds
            else f"{rarest} has {counts[rarest]} subjects, fewer than {folds} folds"
        )
        raise UsageError(what, fix="Ask for fewer --folds, or leave the rare class out")
