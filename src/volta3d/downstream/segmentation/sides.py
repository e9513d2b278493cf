"""Structures whose side nobody named but that lie on one: mirrored crops would mix them up."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from volta3d.config import SegmentConfig
from volta3d.downstream.segmentation.labelled import LabelledScans
from volta3d.downstream.segmentation.structures import Structure
from volta3d.errors import UsageError

SHARE = 0.95  # of a structure's voxels that make a side of the head's box its side
APART_MM = 10.0  # between the middles of a pair, along the axes that a mirror leaves alone
MANY = 8  # scans in which a structure without a counterpart isn't on one side by chance
OFF = "turn mirroring off with --set crops.flip=0 --set test_flips=none"


def check_flips(scans: LabelledScans, config: SegmentConfig) -> None:
    """Refuse to mirror scans whose structures have sides that their names don't tell.

    A mirrored crop swaps left and right structures, which takes knowing which is which. Without it,
    half of the crops would call the left one by the right one's name. So it is refused when, in
    every scan, one structure lies to the left of the head's middle and another at the same height
    and depth to the right of it; or, given ``MANY`` scans that have it, when one lies always on the
    same side and its counterpart isn't asked for. A scan that lacks a structure says nothing of it.

    Raises:
        UsageError: with the ways out: name the sides, or don't mirror.
    """
    if not config.crops.flip and config.test_flips == "none":
        return
    nameless = [i for i, s in enumerate(scans.structures) if not s.side]
    sides = {i: _side(scans, i) for i in nameless}
    left, right = ([i for i in nameless if sides[i] == side] for side in ("left", "right"))
    for one, other in product(left, right):
        if _level(scans, one, other):
            raise _pair(scans.structures[one], scans.structures[other])
    for index in (*left, *right):
        if sum(len(scans.voxels(scan)[index]) > 0 for scan in range(len(scans))) >= MANY:
            raise _alone(scans.structures[index], sides[index])


def _side(scans: LabelledScans, index: int) -> str:
    """On which side of the head's box a structure lies wherever it is there; empty if on none."""
    found = set()
    for scan in range(len(scans)):
        voxels = scans.voxels(scan)[index]
        if not len(voxels):
            continue
        first, last = scans.inside(scan)
        # axis 0 of a prepared volume points to the right
        share = float((voxels[:, 0] < (first[0] + last[0]) / 2).mean())
        found.add("left" if share >= SHARE else "right" if share <= 1 - SHARE else "")
    return found.pop() if len(found) == 1 else ""


def _level(scans: LabelledScans, one: int, other: int) -> bool:
    """Whether two structures lie at the same depth and height in every scan that has both.

    No, where no scan has both.
    """
    shared = False
    for scan, row in enumerate(scans.rows):
        spacing = np.linalg.norm(scans.cohort.affine(row)[:3, 1:3], axis=0)
        both = [scans.voxels(scan)[i] for i in (one, other)]
        if not all(len(voxels) for voxels in both):
            continue
        middles = [voxels[:, 1:].mean(axis=0) for voxels in both]
        if (np.abs(middles[0] - middles[1]) * spacing > APART_MM).any():
            return False
        shared = True
    return shared


def _pair(left: Structure, right: Structure) -> UsageError:
    return UsageError(
        f"'{left.name}' always lies on the left and '{right.name}' on the right, but their names "
        "tell no sides, so mirrored crops would teach one as the other",
        where="labels",
        fix=f"Name their sides, --set 'labels={{left: {_listed(left.values)}, "
        f"right: {_listed(right.values)}}}', or {OFF}",
    )


def _alone(structure: Structure, side: str) -> UsageError:
    return UsageError(
        f"'{structure.name}' lies on the {side} in every scan that has it and its counterpart is "
        "not among the structures, so mirrored crops would teach it on both sides",
        where="labels",
        fix=f"Ask for both sides by name, or {OFF}",
    )


def _listed(values: Sequence[int]) -> str:
    return str(values[0]) if len(values) == 1 else str(list(values))
