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

from volta3d.errors import UsageError, VoltaError
from volta3d.files import content_hash, read_json, write_json

FORMAT = 1
NEVER = -1  # the fold of a subject that is never tested
FINAL = -1  # the fold in whose training part everybody is: for the model that is kept
INNER_EVERY = 5  # every fifth subject of a stratum goes to inner validation


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
