"""What is to be segmented: structures by name, number or set, with their sides."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from volta3d.errors import UsageError, nearest

LEFT = re.compile(r"(?<![a-z])(left|lh|l)(?![a-z])", re.IGNORECASE)
RIGHT = re.compile(r"(?<![a-z])(right|rh|r)(?![a-z])", re.IGNORECASE)
# Label values that say by themselves what they are, when no dseg.tsv does.
FREESURFER = {17: "Left-Hippocampus", 53: "Right-Hippocampus"}
PARTS = ("anterior", "posterior")  # Medical Segmentation Decathlon, one hippocampus a crop
EXAMPLE = "--set 'labels={left: 48, right: 47}'"


@dataclass(frozen=True)
class Structure:
    """One structure, class 1, 2, ... of a network in the order they are listed.

    Args:
        name: for tables.
        values: of the label map that belong to it; the first is written in predictions.
        side: left, right, or empty.
    """

    name: str
    values: tuple[int, ...]
    side: str = ""

    def content(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"name": self.name, "values": list(self.values), "side": self.side}

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> Structure:
        """The inverse of ``content``."""
        values = tuple(int(v) for v in content["values"])
        return cls(str(content["name"]), values, str(content.get("side", "")))


def side_of(name: str) -> str:
    """left, right or empty, from words such as Left-, lh, _R."""
    spaced = re.sub(r"[_\-.]", " ", name)
    left, right = bool(LEFT.search(spaced)), bool(RIGHT.search(spaced))
    return "" if left == right else "left" if left else "right"


def resolve(
    labels: str | Mapping[str, int | Sequence[int]] | Sequence[int | str],
    names: Mapping[int, str],
    present: Sequence[int] = (),
) -> tuple[Structure, ...]:
    """The structures that ``labels`` asks for.

    Args:
        labels: ``hippocampus``, which is found by its names (or FreeSurfer's 17 and 53); a list of
            numbers or names of ``dseg.tsv``; or a mapping of one's own names to numbers.
        names: of the values, from the cohort's ``dseg.tsv``.
        present: the values that occur, for sets without names.

    Raises:
        UsageError: nothing fits, or one side only.
    """
    if isinstance(labels, Mapping):
        found = [Structure(k, _values(k, v), side_of(k)) for k, v in labels.items()]
    elif isinstance(labels, str):
        found = _hippocampus(labels, names, present)
    else:
        found = [_one(label, names) for label in labels]
    values = [v for s in found for v in s.values]
    if not found or len(set(values)) != len(values) or 0 in values:
        raise UsageError(
            "The structures to segment need label values of their own, other than 0",
            where=str(labels),
            fix=f"Write for example {EXAMPLE}",
        )
    _check_sides(found)
    return tuple(found)


def pairs(structures: Sequence[Structure]) -> tuple[int, ...] | None:
    """The classes 0..C-1 in the order they have in a mirrored body; None without sides.

    A structure without a side stays itself.
    """
    if not any(s.side for s in structures):
        return None
    bare = [_bare(s.name) for s in structures]
    order = [0]
    for i, structure in enumerate(structures):
        partner = i
        if structure.side:
            partner = next(
                j
                for j, other in enumerate(structures)
                if other.side and other.side != structure.side and bare[j] == bare[i]
            )
        order.append(partner + 1)
    return tuple(order)


def classes_of(labels: np.ndarray, structures: Sequence[Structure]) -> np.ndarray:
    """A label map with its classes 0..C-1 as uint8; everything not asked for is background."""
    largest = max(int(labels.max(initial=0)), *(v for s in structures for v in s.values))
    table = np.zeros(largest + 1, np.uint8)
    for index, structure in enumerate(structures):
        table[list(structure.values)] = index + 1
    found: np.ndarray = table[labels]
    return found


def values_of(classes: np.ndarray, structures: Sequence[Structure]) -> np.ndarray:
    """The inverse: classes to the first label value of each structure, uint16."""
    table = np.array([0, *(s.values[0] for s in structures)], np.uint16)
    found: np.ndarray = table[classes]
    return found


def _values(name: str, given: int | Sequence[int]) -> tuple[int, ...]:
    values = (given,) if isinstance(given, int) else tuple(given)
    if not values or any(not 0 < v <= 65535 for v in values):
        raise UsageError("Label values lie between 1 and 65535", where=name, fix=EXAMPLE)
    return values


def _one(label: int | str, names: Mapping[int, str]) -> Structure:
    if isinstance(label, int):
        name = names.get(label, f"label {label}")
        return Structure(name, _values(name, label), side_of(name))
    for value, name in names.items():
        if name.casefold() == label.casefold():
            return Structure(name, (value,), side_of(name))
    raise UsageError(
        "No label of that name", where=label, fix=nearest(label, names.values() or ["(no names)"])
    )


def _hippocampus(wanted: str, names: Mapping[int, str], present: Sequence[int]) -> list[Structure]:
    if wanted.casefold() not in ("hippocampus", "hippocampi"):
        return [_one(wanted, names)]
    named = {v: n for v, n in names.items() if "hippocamp" in n.lower()}
    if not named and {17, 53} <= set(present) and not names:
        named = FREESURFER
    if named:
        by_side: dict[str, list[tuple[int, str]]] = {}
        for value, name in named.items():
            by_side.setdefault(side_of(name), []).append((value, name))
        if all(len(found) == 1 for found in by_side.values()):
            order = [s for s in ("left", "right", "") if s in by_side]
            chosen = [(*by_side[s][0], s) for s in order]
            return [Structure(name, (value,), side) for value, name, side in chosen]
    parts = [(v, n) for p in PARTS for v, n in names.items() if p in n.lower()]
    if len(parts) == len(PARTS) and not named:
        return [Structure(name, (value,)) for value, name in parts]
    known = ", ".join(f"{v} {n}" for v, n in list(names.items())[:8]) or "none is named"
    raise UsageError(
        f"Which labels are the hippocampus is not clear (labels: {known})",
        where="labels",
        fix=f"Put a dseg.tsv with columns index and name beside the label maps and prepare again, "
        f"or say it: {EXAMPLE}",
    )


def _bare(name: str) -> str:
    spaced = re.sub(r"[_\-.]", " ", name)
    return " ".join(RIGHT.sub(" ", LEFT.sub(" ", spaced)).split()).casefold()


def _check_sides(structures: Sequence[Structure]) -> None:
    for structure in structures:
        others = [
            s
            for s in structures
            if s.side and s.side != structure.side and _bare(s.name) == _bare(structure.name)
        ]
        if structure.side and len(others) != 1:
            raise UsageError(
                f"'{structure.name}' has a side but its other side is not among the structures",
                where="labels",
                fix=f"Name both sides, alike but for the side: {EXAMPLE}; or name it without one",
            )
