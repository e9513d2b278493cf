"""One scan prepared in memory: read, corrected, stripped, resampled once, scaled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from volta3d.cohort.contract import Contract
from volta3d.prepare import intensity, nyul
from volta3d.prepare.background import odd_background
from volta3d.prepare.bias import correct_bias
from volta3d.prepare.brainmask import brain_mask
from volta3d.prepare.checks import voxel_sizes
from volta3d.prepare.contents import about_field, about_volume, check_values
from volta3d.prepare.findings import Finding
from volta3d.prepare.foreground import Foreground, find_foreground, of_mask
from volta3d.prepare.geometry import as_float, mapping_to, plan_grid, to_ras
from volta3d.prepare.image import read_image
from volta3d.prepare.labels import brain_volume, lost_labels, read_labels
from volta3d.prepare.resample import resample, resample_nearest
from volta3d.prepare.scan import Label
from volta3d.prepare.stripping import FINDING, Stripping, stripping_of


@dataclass(frozen=True)
class Prepared:
    """A prepared scan in memory.

    Args:
        volume: float32 [D, H, W] in the contract's value range.
        label: uint16 [D, H, W] or None.
        affine: 4x4 from voxels of the cube to world mm.
        foreground_mm3, brain_mm3: volumes measured on the native grid; brain NaN if unknown.
        findings: what was noticed.
        stripping: whether it came as a whole head or a stripped brain.
    """

    volume: np.ndarray
    label: np.ndarray | None
    affine: np.ndarray
    foreground_mm3: float
    brain_mm3: float
    findings: tuple[Finding, ...]
    stripping: Stripping = ""


@dataclass
class Native:
    """A scan on its own grid.

    Args:
        data: float32 [I, J, K], axes in RAS order, within ``low`` to ``high``.
        affine: 4x4 from its voxels to world mm.
        low, high: the contract's percentiles.
        brain: bool like ``data`` when it was skull-stripped.
        findings: what was noticed.
    """

    data: np.ndarray
    affine: np.ndarray
    low: float
    high: float
    brain: np.ndarray | None
    findings: list[Finding]


@dataclass
class Placed:
    """A scan in the prepared cube, its intensities not yet scaled.

    Args:
        volume: float32 [D, H, W] within ``low`` to ``high``.
        grid: 4x4 from voxels of the cube to world mm.
        mapping: 4x4 from voxels of the cube to native voxels.
        native_affine, native_shape: the grid that it comes from.
        foreground: the head, or the brain when it was stripped.
        brain_mm3: volume of the brain mask, NaN without one.
        stripping: whether it came as a whole head or a stripped brain.
    """

    volume: np.ndarray
    low: float
    high: float
    grid: np.ndarray
    mapping: np.ndarray
    native_affine: np.ndarray
    native_shape: tuple[int, ...]
    foreground: Foreground
    brain_mm3: float
    findings: list[Finding]
    stripping: Stripping

    def inside(self) -> np.ndarray:
        """The foreground in the cube, bool [D, H, W]."""
        mapping = mapping_to(self.foreground.affine, self.grid)
        shape = (len(self.volume),) * 3
        return resample_nearest(self.foreground.mask.astype(np.uint8), mapping, shape) > 0


def prepare_scan(source: Path, contract: Contract, label: Label | None = None) -> Prepared:
    """Prepare one scan in memory.

    Raises:
        Refused: with the reason and the way to fix it.
    """
    placed = place(source, contract)
    findings = placed.findings
    prepared, brain = None, placed.brain_mm3
    if label is not None:
        labels, about = read_labels(label, placed.native_affine, placed.native_shape)
        whole = brain_volume(labels, placed.native_affine)
        brain = brain if math.isnan(whole) else whole
        prepared = resample_nearest(labels, placed.mapping, (contract.size,) * 3)
        findings += about + lost_labels(labels, prepared)
    mm3, grid = placed.foreground.mm3, placed.grid
    scaled = _scaled(placed, contract)
    return Prepared(scaled, prepared, grid, mm3, brain, tuple(findings), placed.stripping)


def own_landmarks(source: Path, contract: Contract) -> np.ndarray:
    """The landmarks [11] of one scan's histogram, for learning a standard from many.

    Raises:
        Refused: as ``prepare_scan``.
    """
    placed = place(source, contract)
    return nyul.deciles(intensity.to_range(placed.volume, placed.low, placed.high), placed.inside())


def place(source: Path, contract: Contract) -> Placed:
    """Read a scan and resample it into the prepared cube; its native voxels are let go of.

    Raises:
        Refused: with the reason and the way to fix it.
    """
    native = read_native(source, contract)
    data, affine, brain = native.data, native.affine, native.brain
    foreground = find_foreground(data, affine) if brain is None else of_mask(brain, affine)
    grid, planned = plan_grid(data.shape, affine, foreground, contract)
    mapping = mapping_to(affine, grid)
    volume = resample(data, mapping, (contract.size,) * 3, outside=native.low)
    findings = native.findings + planned
    stripping: Stripping = ""
    if brain is None and not any(f.code == "small-field-of-view" for f in findings):
        findings += about_volume(foreground.mm3)
        stripping = stripping_of(data, foreground.mm3, foreground.mask)
        findings += [FINDING] if stripping == "stripped" else []
    brain_mm3 = math.nan if brain is None else foreground.mm3
    return Placed(
        volume, native.low, native.high, grid, mapping, affine, data.shape, foreground, brain_mm3,
        findings, stripping,
    )  # fmt: skip


def read_native(source: Path, contract: Contract) -> Native:
    """Read a scan; mend, correct and strip it as the contract says, and clip its intensities.

    Raises:
        Refused: with the reason and the way to fix it.
    """
    image = read_image(source, narrow=True)
    check_values(image.data)
    view, affine = to_ras(image.data, image.affine)
    findings = [*image.findings, *about_field(view.shape, voxel_sizes(affine))]
    whole = view.dtype.kind in "iu"
    plain = contract.bias == "none" and contract.skull_strip == "none"
    known = intensity.limits(image.data, contract.percentiles) if whole and plain else None
    with np.errstate(over="ignore"):  # becomes infinite, which is mended or refused next
        data = as_float(view)
    del image, view  # half of the memory
    odd = odd_background(data)
    outside, noticed = odd or (None, None)
    if outside is not None and noticed is not None:
        findings.append(noticed)
        known, whole = None, False
        data[outside] = _darkest(data[~outside])
    if not whole:
        data, mended = intensity.mend(data)
        findings += mended
    if contract.bias == "n4":
        data, corrected = correct_bias(data, affine)
        findings += corrected
    brain, stripped = brain_mask(data, affine, source, contract)
    head = brain if outside is None or brain is not None else ~outside
    low, high, spread = known or intensity.limits(
        data if head is None else data[head], contract.percentiles
    )
    findings += stripped + spread
    np.clip(data, np.float32(low), np.float32(high), out=data)
    if head is not None:
        data[~head] = low
    return Native(data, affine, low, high, brain, findings)


def _darkest(inside: np.ndarray) -> np.float32:
    finite = inside[np.isfinite(inside)]
    return np.float32(finite.min()) if finite.size else np.float32(0)


def _scaled(placed: Placed, contract: Contract) -> np.ndarray:
    if contract.scaling == "zscore":
        return intensity.to_zscore(placed.volume, placed.inside())
    ranged = intensity.to_range(placed.volume, placed.low, placed.high)
    if contract.scaling == "range":
        return ranged
    return nyul.standardise(ranged, nyul.deciles(ranged, placed.inside()), contract.landmarks)
