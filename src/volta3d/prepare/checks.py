"""Checks on a NIfTI header, all of them before a single voxel is allocated.

Each function returns what it decided together with findings, or raises ``Refused``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from volta3d.prepare.findings import Finding, Refused

MAX_VOXELS = 2**28  # 645 cubed, a head at 0.4 mm; bounds the memory of any file to a few GiB
MIN_EDGE = 4
ZOOM_RANGE = (0.05, 20.0)  # mm; outside, a voxel size is not one of a head scan
THICK = 3.0  # ratio of largest to smallest voxel edge, or edge in mm, that is flagged
AGREE_MM = 0.1  # sform and qform may place a corner this far apart
RGB, COMPLEX = {128, 2304}, {32, 1792, 2048}
NUMBERS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
NUMBERS |= {1024: "i8", 1280: "u8"}
EXPORT = "Export the scan again from the archive or the scanner"
RESAMPLE = "If it is a real scan, resample it to 0.5 mm first; else export it again"


def check_shape(header: Any) -> tuple[tuple[int, int, int], list[Finding]]:
    """The three spatial sizes, trailing axes of length one dropped.

    Raises:
        Refused: 2D, a series, 5D, or sizes that are impossible or too large.
    """
    dims = [int(d) for d in header["dim"]]
    rank = dims[0]
    if not 1 <= rank <= 7 or any(d < 1 for d in dims[1 : rank + 1]):
        raise Refused("bad-dims", f"The header's dimensions are impossible: {dims}", EXPORT)
    shape = dims[1 : rank + 1]
    findings = []
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if rank > len(shape):
        findings.append(
            Finding("warning", "squeezed", f"Stored with {rank} axes, the last ones of length 1")
        )
    return check_size(shape, shape), findings


def check_size(shape: list[int], whole: list[int]) -> tuple[int, int, int]:
    """The three spatial sizes of an image of any format.

    Args:
        shape: its axes without trailing ones of length one.
        whole: its axes as the header has them.

    Raises:
        Refused: 2D, a series, 5D, or sizes that are impossible or too large.
    """
    if any(d < 1 for d in whole):
        raise Refused("bad-dims", f"The header's dimensions are impossible: {whole}", EXPORT)
    if len(shape) > 4:
        raise Refused("five-d", f"An image with {len(shape)} axes, not a volume", EXPORT)
    if len(shape) == 4:
        raise Refused(
            "series",
            f"A series of {shape[3]} volumes; which one is the T1w scan is not guessed",
            "Save the volume wanted as a 3D file of its own",
        )
    if len(shape) < 3 or min(shape) < MIN_EDGE:
        raise Refused("not-3d", f"Not a volume: {shape} voxels", EXPORT)
    if math.prod(shape) > MAX_VOXELS:
        raise Refused("too-large", f"The header claims {shape} voxels", RESAMPLE)
    return shape[0], shape[1], shape[2]


def check_voxels(affine: np.ndarray) -> tuple[np.ndarray, list[Finding]]:
    """An affine in mm, with what a person should know about its voxels.

    Raises:
        Refused: singular, not finite, or voxels of an impossible size.
    """
    usable = _usable(affine, 1.0)
    if usable is None:
        raise Refused("bad-affine", "The affine is singular, not finite or not in mm", EXPORT)
    return usable, _look_at(usable)


def check_type(header: Any) -> np.dtype[Any]:
    """The type of a stored voxel.

    Raises:
        Refused: colour, complex, or a type that holds no plain number.
    """
    code = int(header["datatype"])
    if code in RGB:
        raise Refused("rgb", "A colour picture, not a scan", EXPORT)
    if code in COMPLEX:
        raise Refused("complex", "Complex values", "Save the magnitude image instead")
    if code not in NUMBERS:
        raise Refused("bad-type", f"NIfTI data type {code} is not supported", EXPORT)
    return np.dtype(NUMBERS[code]).newbyteorder(header.endianness)


def check_offset(header: Any) -> tuple[int, list[Finding]]:
    """Where the voxels start in the file.

    Raises:
        Refused: an impossible offset.
    """
    offset, least = float(header["vox_offset"]), int(header["sizeof_hdr"]) + 4
    if offset == 0:
        return least, [Finding("warning", "no-offset", "The header's data offset was 0")]
    if not math.isfinite(offset) or offset < least or offset > 2**24:
        raise Refused("bad-offset", f"The header's data offset is {offset:g}", EXPORT)
    return int(offset), []


def check_scaling(header: Any) -> tuple[float, float, list[Finding]]:
    """Slope and intercept; a slope of 0 means none, by the standard."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0:
        return 1.0, 0.0, []
    if math.isnan(slope) and (math.isnan(intercept) or intercept == 0):
        return 1.0, 0.0, []  # how some libraries write "none"
    if not math.isfinite(slope) or not math.isfinite(intercept):
        what = f"The header's slope {slope:g} and intercept {intercept:g} were ignored"
        return 1.0, 0.0, [Finding("warning", "bad-scl-slope", what)]
    return slope, intercept, []


def check_affine(header: Any, shape: tuple[int, int, int]) -> tuple[np.ndarray, list[Finding]]:
    """The 4x4 affine from voxels to world millimetres.

    Precedence: the sform when its code is positive and its matrix usable, else the qform when its
    code is positive and usable. Neither: left and right are unknown and nothing is guessed.

    Raises:
        Refused: both codes zero, or no usable matrix.
    """
    scodes, qcodes = int(header["sform_code"]), int(header["qform_code"])
    if scodes <= 0 and qcodes <= 0:
        raise Refused(
            "no-orientation",
            "Neither sform nor qform is set, so left and right are unknown",
            "Convert from DICOM again, or set the sform after checking the sides",
        )
    unit, findings = _unit(header)
    sform = _usable(header.get_sform(), unit) if scodes > 0 else None
    qform = _usable(_qform(header), unit) if qcodes > 0 else None
    affine = sform if sform is not None else qform
    if affine is None:
        raise Refused("bad-affine", "The affine is singular, not finite or not in mm", EXPORT)
    if scodes > 0 and sform is None:
        findings.append(Finding("warning", "bad-sform", "The sform is unusable; took the qform"))
    if qcodes > 0 and qform is None:
        findings.append(Finding("warning", "bad-qform", "The qform is unusable; took the sform"))
    if sform is not None and qform is not None:
        apart = corner_distance(sform, qform, shape)
        if apart > AGREE_MM:
            what = f"sform and qform place a corner {apart:.1f} mm apart; took the sform"
            findings.append(Finding("warning", "sform-qform-differ", what))
    return affine, findings + _look_at(affine)


def corner_distance(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> float:
    """The largest distance in mm between where two affines put the corners of a grid."""
    corners = np.array([[*c, 1] for c in np.ndindex(2, 2, 2)], np.float64)
    corners[:, :3] *= np.array(shape) - 1
    return float(np.linalg.norm((corners @ (first - second).T)[:, :3], axis=1).max())


def voxel_sizes(affine: np.ndarray) -> np.ndarray:
    """The edge lengths of a voxel in mm, [3]."""
    sizes: np.ndarray = np.linalg.norm(affine[:3, :3], axis=0)
    return sizes


def _unit(header: Any) -> tuple[float, list[Finding]]:
    """Millimetres per unit of the header, judged by the voxel size it gives."""
    code = int(header["xyzt_units"]) & 7
    factor = {1: 1000.0, 3: 0.001}.get(code, 1.0)
    if factor == 1.0:
        return 1.0, []
    matrix = header.get_sform() if int(header["sform_code"]) > 0 else _qform(header)
    if matrix is not None and _usable(matrix, 1.0) is not None:
        what = "The header's unit is not mm, but its voxel size is one in mm; read as mm"
        return 1.0, [Finding("warning", "wrong-units", what)]
    what = f"The header's unit is {factor:g} mm; converted"
    return factor, [Finding("info", "converted-units", what)]


def _qform(header: Any) -> np.ndarray | None:
    """The qform, a quaternion slightly longer than one brought back to length one."""
    q = np.array([header[f"quatern_{k}"] for k in "bcd"], np.float64)
    zooms = np.array(header["pixdim"][1:4], np.float64)
    offset = np.array([header[f"qoffset_{k}"] for k in "xyz"], np.float64)
    length = float(q @ q)
    if not math.isfinite(length) or length > 1.01 or (zooms <= 0).any():
        return None
    if length > 1:
        q /= math.sqrt(length)
    b, c, d = q
    a = math.sqrt(max(0.0, 1.0 - float(q @ q)))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )
    if float(header["pixdim"][0]) < 0:
        zooms = zooms * [1, 1, -1]
    affine = np.eye(4)
    affine[:3, :3] = rotation * zooms
    affine[:3, 3] = offset
    return affine


def _usable(matrix: np.ndarray | None, unit: float) -> np.ndarray | None:
    if matrix is None or not np.isfinite(matrix).all():
        return None
    affine = np.array(matrix, np.float64)
    with np.errstate(over="ignore"):
        affine[:3] *= unit
        zooms = voxel_sizes(affine)
    if (zooms < ZOOM_RANGE[0]).any() or (zooms > ZOOM_RANGE[1]).any():
        return None
    if abs(np.linalg.det(affine[:3, :3] / zooms)) < 0.1:  # axes nearly in one plane
        return None
    return affine


def _look_at(affine: np.ndarray) -> list[Finding]:
    zooms, findings = voxel_sizes(affine), []
    directions = affine[:3, :3] / zooms
    if np.abs(directions.T @ directions - np.eye(3)).max() > 1e-3:
        findings.append(Finding("warning", "shear", "The voxel axes are not at right angles"))
    if zooms.max() > 1.01 * THICK or zooms.max() / zooms.min() > THICK:
        what = "Thick slices: voxels of " + " x ".join(f"{z:.2g}" for z in zooms) + " mm"
        findings.append(Finding("warning", "thick-slices", what))
    return findings
