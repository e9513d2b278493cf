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
CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{3})")  # LHippocampus, not LOrG
# Label values that say by themselves what they are, when no dseg.tsv does: FreeSurfer's aseg.
HIPPOCAMPI = {17: "Left-Hippocampus", 53: "Right-Hippocampus"}
SIDED = {
    "Cerebral-White-Matter": (2, 41),
    "Cerebral-Cortex": (3, 42),
    "Lateral-Ventricle": (4, 43),
    "Inf-Lat-Vent": (5, 44),
    "Cerebellum-White-Matter": (7, 46),
    "Cerebellum-Cortex": (8, 47),
    "Thalamus": (10, 49),
    "Caudate": (11, 50),
    "Putamen": (12, 51),
    "Pallidum": (13, 52),
    "Hippocampus": (17, 53),
    "Amygdala": (18, 54),
    "Accumbens-area": (26, 58),
    "VentralDC": (28, 60),
    "vessel": (30, 62),
    "choroid-plexus": (31, 63),
}  # left, right
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
    """left, right or empty, from words such as Left-, lh, _R, HippocampusLeft."""
    words = _words(name)
    left, right = bool(LEFT.search(words)), bool(RIGHT.search(words))
    return "" if left == right else "left" if left else "right"


def resolve(
    labels: str | Mapping[str, int | Sequence[int]] | Sequence[int | str],
    names: Mapping[int, str],
    present: Sequence[int] = (),
) -> tuple[Structure, ...]:
    """The structures that ``labels`` asks for.

    Args:
        labels: ``hippocampus``, which is found by its names (or FreeSurfer's 17 and 53); a list of
            numbers or names of ``dseg.tsv``; or a mapping of one's own names to numbers. Where no
            value has a name, a listed number whose other side by FreeSurfer's table is listed too
            has the name and the side of that table.
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
        known = names or _freesurfer(labels)
        found = [_one(label, known) for label in labels]
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


def class_counts(classes: np.ndarray, structures: Sequence[Structure]) -> np.ndarray:
    """How many voxels each class has, int64 [C].

    Plane by plane: numpy counts in eight bytes a voxel, which of a whole volume is a gigabyte.

    Args:
        classes: uint8 [I, J, K], values 0..C-1.
        structures: in the order of the classes 1..C-1.
    """
    counts = np.zeros(len(structures) + 1, np.int64)
    for plane in classes:
        counts += np.bincount(plane.ravel(), minlength=len(counts))
    return counts


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


def _freesurfer(labels: Sequence[int | str]) -> dict[int, str]:
    """FreeSurfer's names of the numbers that are there with their other side."""
    found: dict[int, str] = {}
    for name, (left, right) in SIDED.items():
        if left in labels and right in labels:
            found |= {left: f"Left-{name}", right: f"Right-{name}"}
    return found


def _hippocampus(wanted: str, names: Mapping[int, str], present: Sequence[int]) -> list[Structure]:
    if wanted.casefold() not in ("hippocampus", "hippocampi"):
        return [_one(wanted, names)]
    named = {v: n for v, n in names.items() if "hippocamp" in n.lower()}
    if not named and {17, 53} <= set(present) and not names:
        named = HIPPOCAMPI
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


def _words(name: str) -> str:
    """A name with spaces between its words; HippocampusLeft is two where no other word is a side.

    So that the L of "Right LOrG lateral orbital gyrus" stays what it is.
    """
    spaced = re.sub(r"[_\-.]", " ", name)
    said = LEFT.search(spaced) or RIGHT.search(spaced)
    return spaced if said else CAMEL.sub(" ", spaced)


def _bare(name: str) -> str:
    """A name without its side."""
    return " ".join(RIGHT.sub(" ", LEFT.sub(" ", _words(name))).split()).casefold()


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
