"""Planes in space become a stack: order, gaps, tilt, and the affine the DICOM standard gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from volta3d.prepare.dicom.header import EXPORT, Frame
from volta3d.prepare.findings import Finding, Refused

SAME_MM = 0.01  # planes this close along the normal are one position
GAP = 0.05  # of the spacing by which a gap may differ (with SAME_MM as the least)
PARALLEL = 1e-3  # direction cosines that differ less are one orientation
TILT_DEGREES = 0.2  # between the stacking direction and the normal; below is rounding
SPACING_RANGE = (0.05, 20.0)
MIN_SLICES = 8
PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Stack:
    """Planes at regular positions.

    Args:
        slots: the frames at each position, in the direction of the normal; more than one only
            where files repeat each other.
        affine: 4x4 from (column, row, slice) to RAS mm (DICOM PS3.3 C.7.6.2.1.1, x and y negated).
        shape: columns, rows, slices.
        plane: the anatomical plane closest to that of the slices.
        tilt: degrees between the stacking direction and the normal.
        findings: what was noticed.
    """

    slots: tuple[tuple[Frame, ...], ...]
    affine: np.ndarray
    shape: tuple[int, int, int]
    plane: str
    tilt: float
    findings: tuple[Finding, ...]


def stack(frames: Sequence[Frame], rows: int, columns: int) -> Stack:
    """The stack that ``frames`` form.

    Raises:
        Refused: no position, orientation or spacing, several orientations, or gaps.
    """
    check_placed(frames)
    across = np.array(frames[0].orientation[:3])
    down = np.array(frames[0].orientation[3:])
    normal = np.cross(across, down)
    normal /= np.linalg.norm(normal)
    positions = np.array([f.position for f in frames])
    order = np.lexsort((np.arange(len(frames)), positions @ normal))
    slots = _slots([frames[i] for i in order], normal)
    if len(slots) < MIN_SLICES:
        what = f"Only {len(slots)} slice positions"
        raise Refused("too-few-slices", what, "Give all slices of the series, or leave it out")
    places = np.array([slot[0].position for slot in slots])
    _check_gaps(places @ normal)
    step = (places[-1] - places[0]) / (len(places) - 1)
    if np.abs(places - places[0] - np.arange(len(places))[:, None] * step).max() > 0.5:
        raise Refused("irregular-positions", "The slices do not lie on one line", EXPORT)
    tilt = math.degrees(math.acos(min(1.0, abs(step @ normal) / np.linalg.norm(step))))
    findings = []
    if tilt > TILT_DEGREES:
        what = f"Gantry tilt: slices stacked {tilt:.1f} degrees off their normal; kept as a shear"
        findings.append(Finding("warning", "gantry-tilt", what, "Compare with the scanner's view"))
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1] = across * frames[0].spacing[1], down * frames[0].spacing[0]
    lps[:3, 2], lps[:3, 3] = step, places[0]
    return Stack(
        slots=tuple(slots),
        affine=np.diag([-1.0, -1, 1, 1]) @ lps,
        shape=(columns, rows, len(slots)),
        plane=PLANES[int(np.abs(normal).argmax())],
        tilt=tilt,
        findings=tuple(findings),
    )


def check_placed(frames: Sequence[Frame]) -> None:
    """Every plane says where it lies, and all lie parallel.

    Raises:
        Refused: something is missing or impossible, or the planes are a localiser's.
    """
    if any(math.isnan(v) for f in frames for v in f.orientation):
        raise Refused("no-orientation", "Slices without an orientation", EXPORT)
    if any(math.isnan(v) for f in frames for v in f.position):
        raise Refused("no-position", "Slices without a position", EXPORT)
    spacing = np.array([f.spacing for f in frames])
    if not ((spacing >= SPACING_RANGE[0]) & (spacing <= SPACING_RANGE[1])).all():
        raise Refused("no-spacing", "Slices without a usable pixel spacing", EXPORT)
    directions = np.array([f.orientation for f in frames]).reshape(-1, 2, 3)
    lengths = np.linalg.norm(directions, axis=2)
    upright = (directions[:, 0] * directions[:, 1]).sum(axis=1)
    if (np.abs(lengths - 1) > 0.01).any() or (np.abs(upright) > 0.01).any():
        raise Refused("no-orientation", "Slices whose orientation is no rotation", EXPORT)
    if np.abs(directions - directions[0]).max() > PARALLEL:
        what = "Slices in several directions, as of a localiser"
        raise Refused("localiser", what, "Nothing to do if it is one; else export planes apart")
    if np.abs(spacing - spacing[0]).max() > 1e-3 * spacing[0].max():
        raise Refused("mixed-sizes", "Slices of different pixel spacing in one series", EXPORT)


def _slots(frames: Sequence[Frame], normal: np.ndarray) -> list[tuple[Frame, ...]]:
    slots: list[list[Frame]] = []
    last = -math.inf
    for frame in frames:
        place = float(np.array(frame.position) @ normal)
        if place - last > SAME_MM:
            slots.append([])
            last = place
        slots[-1].append(frame)
    return [tuple(slot) for slot in slots]


def _check_gaps(places: np.ndarray) -> None:
    gaps = np.diff(places)
    usual = float(np.median(gaps))
    if not SPACING_RANGE[0] <= usual <= SPACING_RANGE[1]:
        raise Refused("no-spacing", f"Slices {usual:.3g} mm apart", EXPORT)
    allowed = max(GAP * usual, SAME_MM)
    odd = gaps[np.abs(gaps - usual) > allowed]
    if not len(odd):
        return
    counts = odd / usual
    if (np.abs(counts - np.rint(counts)) < 2 * GAP).all() and (np.rint(counts) >= 2).all():
        missing = int((np.rint(counts) - 1).sum())
        what = f"{missing} of {len(places) + missing} slices are missing"
        raise Refused("missing-slice", what, EXPORT)
    what = f"Gaps between slices from {gaps.min():.2f} to {gaps.max():.2f} mm"
    raise Refused("irregular-gaps", what, EXPORT)
