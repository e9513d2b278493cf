"""What several cohorts share: people, files, volumes, and volumes that look alike."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from volta3d.cohort.identity import person_key
from volta3d.cohort.phash import NEAR, hash_distances, perceptual_hash
from volta3d.cohort.store import Cohort

BLOCK = 64  # scans compared with all others at once: bounds memory
Progress = Callable[[int, int], None]
KINDS = {
    "subject": "the same person",
    "same-file": "the same file",
    "same-volume": "the same prepared volume",
    "near": "nearly the same volume under another name",
}


@dataclass(frozen=True)
class Print:
    """What a scan is recognised by.

    Args:
        cohort: position of its cohort in the audit.
        scan_id, participant_id: as in the cohort.
        person: the same for all scans of one person, see ``identity``.
        file: SHA-256 of the source, empty if unknown.
        volume: a hash of the prepared voxels.
        bits: the perceptual hash, [7, 597].
    """

    cohort: int
    scan_id: str
    participant_id: str
    person: str
    file: str
    volume: str
    bits: np.ndarray


@dataclass(frozen=True)
class Overlap:
    """Two scans that are one, or of one person. ``distance`` is the share of unlike bits."""

    kind: str
    cohort: str
    scan_id: str
    participant_id: str
    other_cohort: str
    other_scan_id: str
    other_participant_id: str
    distance: float

    def content(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def prints_of(cohorts: Sequence[Cohort], progress: Progress | None = None) -> list[Print]:
    """Every scan of some cohorts with what it is recognised by; reads each volume once."""
    total, found = sum(len(c) for c in cohorts), list[Print]()
    for number, cohort in enumerate(cohorts):
        table = cohort.participants
        for index in range(len(cohort)):
            volume, row = cohort.volume(index), table.iloc[index]
            found.append(
                Print(
                    cohort=number,
                    scan_id=str(row["scan_id"]),
                    participant_id=str(row["participant_id"]),
                    person=person_key(str(row["participant_id"]), str(row["dataset"])),
                    file=str(row["source_sha256"]),
                    volume=hashlib.sha256(np.ascontiguousarray(volume).tobytes()).hexdigest(),
                    bits=perceptual_hash(volume),
                )
            )
            if progress is not None:
                progress(len(found), total)
    return found


def overlaps(
    prints: Sequence[Print], names: Sequence[str], near: float = NEAR
) -> list[tuple[Overlap, Print, Print]]:
    """Pairs of scans that are one image, and people that two cohorts share.

    Within one cohort two scans of a person are as they should be; there, only the same image
    under two scans and nearly the same one under two people are told.

    Args:
        prints: of all scans.
        names: of the cohorts, by their positions.
        near: the largest share of unlike bits that counts as nearly the same.
    """
    kinds: dict[tuple[int, int], str] = {}
    for kind, pairs in (
        ("same-file", _equal([p.file for p in prints])),
        ("same-volume", _equal([p.volume for p in prints])),
        ("near", _near(prints, near)),
        ("subject", _people(prints)),
    ):
        for pair in pairs:
            kinds.setdefault(pair, kind)
    found = []
    for (i, j), kind in sorted(kinds.items(), key=lambda item: (list(KINDS).index(item[1]), item)):
        a, b = prints[i], prints[j]
        distance = float(hash_distances(a.bits[None], b.bits[None])[0, 0])
        ours = names[a.cohort], a.scan_id, a.participant_id
        theirs = names[b.cohort], b.scan_id, b.participant_id
        found.append((Overlap(kind, *ours, *theirs, distance), a, b))
    return found


def _equal(values: Sequence[str]) -> Iterator[tuple[int, int]]:
    groups = defaultdict[str, list[int]](list)
    for index, value in enumerate(values):
        if value:
            groups[value].append(index)
    for group in groups.values():
        yield from combinations(group, 2)


def _people(prints: Sequence[Print]) -> Iterator[tuple[int, int]]:
    for i, j in _equal([p.person for p in prints]):
        if prints[i].cohort != prints[j].cohort:
            yield i, j


def _near(prints: Sequence[Print], near: float) -> Iterator[tuple[int, int]]:
    bits = np.stack([p.bits for p in prints])
    for start in range(0, len(prints), BLOCK):
        distances = hash_distances(bits[start : start + BLOCK], bits[start:])
        for row, column in np.argwhere(distances <= near).tolist():
            i, j = start + row, start + column
            if i < j and prints[i].person != prints[j].person:
                yield i, j
