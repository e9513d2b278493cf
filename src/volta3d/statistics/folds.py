"""Which subject is tested where: splits as data, stratified, hashed, shared by all arms.

Every subject is tested in one fold (or, for a hold-out, some in fold 0 and the others never). The
training part of a fold is put into one order per seed, in which every beginning is stratified. A
fraction of the training part is a beginning of that order, so smaller fractions are nested in
larger ones; of each stratum every fifth subject goes to inner validation, so that those are nested
too. Test folds depend neither on the fraction nor on the seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from volta3d.errors import UsageError, VoltaError
from volta3d.files import content_hash, read_json, write_json
from volta3d.randomness import numpy_generator
from volta3d.statistics.subject_folds import subject_folds

FORMAT = 1
NEVER = -1  # the fold of a subject that is never tested
FINAL = -1  # the fold in whose training part everybody is: for the model that is kept
INNER_EVERY = 5  # every fifth subject of a stratum goes to inner validation
QUANTILES = 5  # strata of a number


@dataclass(frozen=True)
class Part:
    """The subjects of one fit, sorted.

    Args:
        train: the weights are fitted on these.
        inner: epoch, threshold and penalty are chosen on these.
        test: neither; reported on.
    """

    train: tuple[str, ...]
    inner: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def hash(self) -> str:
        """A short hash of who is where."""
        return content_hash([self.train, self.inner, self.test])


@dataclass(frozen=True)
class Splits:
    """Subjects, their strata, the fold each is tested in, and the orders of the training parts.

    Args:
        folds: how many folds are tested.
        seed: of the assignment.
        strata: subject to the name of its stratum.
        fold: subject to its fold, ``NEVER`` for one that is not tested.
        orders: seed to fold (``FINAL`` included) to the training subjects in nested order.
        about: what was split, for the reader: target, labels, cohort.
    """

    folds: int
    seed: int
    strata: Mapping[str, str]
    fold: Mapping[str, int]
    orders: Mapping[int, Mapping[int, Sequence[str]]]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """A short hash of who is tested where."""
        return content_hash([self.folds, dict(self.strata), dict(self.fold)])

    def part(self, fold: int, *, fraction: float = 1.0, seed: int = 0) -> Part:
        """Who trains, validates and is tested in ``fold`` with a fraction of the training part.

        Args:
            fold: 0 to folds - 1, or ``FINAL``, where nobody is tested.
            fraction: of each stratum of the training part, in (0, 1].
            seed: which of the orders.

        Raises:
            UsageError: a fraction outside (0, 1].
        """
        if not 0 < fraction <= 1:
            raise UsageError(
                "A fraction of the training part lies above 0 and up to 1",
                where=fraction,
                fix="Use for example --fractions .2,.6,1",
            )
        train: list[str] = []
        inner: list[str] = []
        order = self.orders[seed][fold]
        for stratum in sorted(set(self.strata.values())):
            own = [s for s in order if self.strata[s] == stratum]
            # at least one to train on and one to validate on, where there are two
            count = max(min(2, len(own)), math.floor(fraction * len(own) + 0.5))
            for position, subject in enumerate(own[:count]):
                (inner if position % INNER_EVERY == 1 else train).append(subject)
        test = [s for s, f in self.fold.items() if f == fold and fold != FINAL]
        return Part(tuple(sorted(train)), tuple(sorted(inner)), tuple(sorted(test)))

    def content(self) -> dict[str, Any]:
        """Plain JSON types, with the hashes."""
        orders = {str(s): {str(f): list(o) for f, o in by.items()} for s, by in self.orders.items()}
        return {
            "format": FORMAT,
            "about": dict(self.about),
            "folds": self.folds,
            "seed": self.seed,
            "subjects": {s: [self.strata[s], self.fold[s]] for s in sorted(self.fold)},
            "orders": orders,
            "hash": self.hash,
            "orders_hash": content_hash(orders),
        }

    def write(self, path: Path) -> None:
        """Publish as JSON.

        Raises:
            VoltaError: it cannot be written.
        """
        write_json(path, self.content())


def read_splits(path: Path) -> Splits:
    """Splits that ``Splits.write`` published.

    Raises:
        VoltaError: missing, unreadable, or changed since.
    """
    content = read_json(path)
    try:
        splits = Splits(
            folds=int(content["folds"]),
            seed=int(content["seed"]),
            strata={s: str(v[0]) for s, v in content["subjects"].items()},
            fold={s: int(v[1]) for s, v in content["subjects"].items()},
            orders={
                int(s): {int(f): tuple(o) for f, o in by.items()}
                for s, by in content["orders"].items()
            },
            about=content["about"],
        )
        intact = splits.content() == content
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise VoltaError(
            f"Not a file of folds: {type(error).__name__}", where=path, fix="Restore it"
        ) from error
    if not intact:
        raise VoltaError(
            "The folds were changed after they were drawn: their hash differs",
            where=path,
            fix="Restore the file, or start a new run folder",
        )
    return splits


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
