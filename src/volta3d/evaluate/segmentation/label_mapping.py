"""What the values of label maps mean, folder by folder: every tool has its own numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from volta3d.downstream.segmentation.structures import Structure, resolve
from volta3d.errors import UsageError, VoltaError
from volta3d.evaluate.segmentation.labelmaps import read_classes
from volta3d.evaluate.segmentation.labelsets import LabelSet

FREESURFER = {17: "Left-Hippocampus", 53: "Right-Hippocampus"}
NEUROMORPHOMETRICS = {48: "Left-Hippocampus", 47: "Right-Hippocampus"}  # MICCAI 2012
LOOKED_AT = 5  # label maps of a folder, for the values that occur
SAY_WHICH = (
    "Put a dseg.tsv with the columns index and name into the folder, or give the numbers that hold "
    "in all folders: --labels '{left: 48, right: 47}'"
)
Key = TypeVar("Key")
Structures = tuple[Structure, ...]


def map_labels(
    reference: LabelSet, others: Mapping[Key, LabelSet], labels: Any
) -> tuple[Structures, dict[Key, Structures]]:
    """The structures of the reference, and those of each other folder in the same order.

    Numbers that are given hold in every folder; names are looked up in each folder's ``dseg.tsv``;
    hippocampi without names are found by the numbers of FreeSurfer (17, 53) or Neuromorphometrics
    (48, 47). A folder without names whose values are those of a folder with names means the same.

    Args:
        reference: the folder of reference label maps.
        others: the folders that are scored.
        labels: as in the settings of ``segment``.

    Raises:
        UsageError: it isn't clear what a folder's values mean.
        VoltaError: a structure has no counterpart in a folder.
    """
    lenders = [s for s in (reference, *others.values()) if s.names]
    structures = _structures_of(reference, labels, lenders)
    found = {}
    for key, labelset in others.items():
        if not labelset.names and not values_of(labelset):
            found[key] = structures  # nothing was outlined anywhere: each structure is missed
            continue
        own = _structures_of(labelset, labels, lenders)
        found[key] = counterparts(structures, own, labelset.folder)
    return structures, found


def structures_of(labelset: LabelSet, labels: Any) -> Structures:
    """What the values of one folder mean.

    Raises:
        UsageError: not clear without names or numbers given.
    """
    asked = isinstance(labels, str) and labels.casefold() in ("hippocampus", "hippocampi")
    if not asked or labelset.names:
        return resolve(labels, labelset.names)
    if labelset.surfer and any(p.parent.name == "mri" for p in labelset.files.values()):
        return resolve(labels, FREESURFER)
    present = values_of(labelset)
    for names in (FREESURFER, NEUROMORPHOMETRICS):
        if set(names) <= present:
            return resolve(labels, names)
    return resolve(labels, FREESURFER if labelset.surfer else {}, sorted(present))


def values_of(labelset: LabelSet) -> set[int]:
    """The values in the first label maps of a folder that have any, without 0.

    Raises:
        VoltaError: not one of them can be read; with the reason of the first.
    """
    present: set[int] = set()
    first_error, read, with_labels = None, 0, 0
    for path in labelset.files.values():
        try:
            own = {int(v) for v in np.unique(read_classes(path)[0])} - {0}
        except VoltaError as error:  # it is reported when it is scored
            first_error = first_error or error
            continue
        read, with_labels = read + 1, with_labels + bool(own)
        present |= own
        if with_labels == LOOKED_AT:
            break
    if first_error is not None and not read:
        raise VoltaError(
            f"None of the {len(labelset.files)} label maps can be used, the first for this: "
            f"{first_error.what}",
            where=first_error.where,
            fix=first_error.fix,
        )
    return present


def counterparts(
    reference: Sequence[Structure], other: Sequence[Structure], where: object = "labels"
) -> Structures:
    """The structures of another label set in the order of the reference's.

    By side where there are sides, else by name, else by the same values, else, where nothing has a
    side, in the order given.

    Raises:
        VoltaError: one has no counterpart.
    """
    found = []
    sided = any(s.side for s in (*reference, *other))
    for position, structure in enumerate(reference):
        same = [s for s in other if s.side and s.side == structure.side]
        if not structure.side or len(same) != 1:
            same = [s for s in other if s.name.casefold() == structure.name.casefold()]
        if not same:
            same = [s for s in other if s.values == structure.values and not s.side]
        if not same and len(other) == len(reference) and not sided:
            same = [other[position]]
        if len(same) != 1:
            raise VoltaError(
                f"'{structure.name}' has no counterpart among {', '.join(s.name for s in other)}",
                where=where,
                fix="Put a dseg.tsv with the same names beside both, or use --labels",
            )
        found.append(same[0])
    return tuple(found)


def _structures_of(labelset: LabelSet, labels: Any, lenders: Sequence[LabelSet]) -> Structures:
    """Its own structures, else those that all folders with the same values agree on."""
    try:
        return structures_of(labelset, labels)
    except UsageError as error:
        lent = _lent(labelset, labels, lenders) if not labelset.names else []
        if not lent or any(_values(m) != _values(lent[0]) for m in lent):
            raise UsageError(error.what, where=labelset.folder, fix=SAY_WHICH) from error
        return lent[0]


def _lent(labelset: LabelSet, labels: Any, lenders: Sequence[LabelSet]) -> list[Structures]:
    present = values_of(labelset)
    found = []
    for lender in lenders:
        with contextlib.suppress(UsageError):  # reported when its own turn comes
            if present and present <= set(lender.names):
                found.append(structures_of(lender, labels))
    return found


def _values(structures: Structures) -> list[tuple[tuple[int, ...], str]]:
    return [(s.values, s.side) for s in structures]
