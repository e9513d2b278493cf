"""Slices written anew for the converter: only geometry and voxels, under neutral names.

Nothing of the source's header goes into these files but the few numbers below, so neither a name
nor a vendor's private field can reach the converter, its output or its log.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from volta3d.prepare.dicom.files import Opener
from volta3d.prepare.dicom.geometry import Stack
from volta3d.prepare.dicom.header import EXPORT, Frame
from volta3d.prepare.dicom.neutral import (
    PIXELS,
    Element,
    dicom_file,
    packed_pixels,
    text,
    whole,
)
from volta3d.prepare.dicom.series import Series
from volta3d.prepare.dicom.voxels import Slice, SliceReader
from volta3d.prepare.findings import Finding, Refused

STUDY, SERIES, PLACE = "2.25.1", "2.25.2", "2.25.3"  # the same for every scan
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"


@dataclass(frozen=True)
class Staged:
    """What was written: per slice a checksum of its values (None if compressed) and its scaling."""

    checksums: tuple[int | None, ...]
    slopes: np.ndarray
    intercepts: np.ndarray
    inverted: bool
    findings: tuple[Finding, ...]


def stage(series: Series, planes: Stack, folder: Path) -> Staged:
    """Write the slices of a stack into ``folder`` as 1.dcm, 2.dcm and so on.

    Raises:
        Refused: voxels are missing, cannot be decoded, or two files contradict each other.
        OSError: a file cannot be read or written.
    """
    kept: list[tuple[int | None, float, float, bool]] = []
    repeated = 0
    with Opener() as opener:
        source = SliceReader(opener)
        for number, slot in enumerate(planes.slots):
            first = source.slice(slot[0])
            for frame in slot[1:]:
                if not first.same(source.slice(frame)):
                    raise _conflict(planes)
                repeated += 1
            _write(first, slot[0], planes, number, folder / f"{number + 1}.dcm")
            checksum = None if first.values is None else checksum_of(first.values)
            kept.append((checksum, first.slope, first.intercept, first.inverted))
    findings = []
    if repeated:
        what = f"{repeated} files repeat others exactly and were left out"
        findings.append(Finding("info", "duplicates", what))
    checksums, slopes, intercepts, inverted = zip(*kept, strict=True)
    if len(set(inverted)) > 1:
        raise Refused("mixed-pictures", "Some slices are inverted, some are not", EXPORT)
    return Staged(checksums, np.array(slopes), np.array(intercepts), inverted[0], tuple(findings))


def checksum_of(values: np.ndarray) -> int:
    """Of stored values [rows, columns], whatever their integer type."""
    return zlib.crc32(values.astype("<i4").tobytes())


def _write(plane: Slice, frame: Frame, planes: Stack, number: int, path: Path) -> None:
    step = float(np.linalg.norm(planes.affine[:3, 2]))
    bits = plane.bits
    if plane.values is not None:
        bits = (16, 16, 15, int(plane.values.dtype == np.int16))
    elements: list[Element] = [
        (0x00080016, "UI", text(MR_IMAGE)),
        (0x00080018, "UI", text(f"{SERIES}.{number + 1}")),
        (0x00080060, "CS", b"MR"),
        (0x00180050, "DS", _decimals([step])),  # slice thickness
        (0x00180088, "DS", _decimals([step])),  # spacing between slices
        (0x0020000D, "UI", text(STUDY)),
        (0x0020000E, "UI", text(SERIES)),
        (0x00200011, "IS", b"1"),  # series, acquisition, instance
        (0x00200012, "IS", b"1"),
        (0x00200013, "IS", text(number + 1)),
        (0x00200032, "DS", _decimals(frame.position)),
        (0x00200037, "DS", _decimals(planes.slots[0][0].orientation)),
        (0x00200052, "UI", text(PLACE)),
        (0x00280002, "US", whole(1)),
        (0x00280004, "CS", b"MONOCHROME2"),
        (0x00280010, "US", whole(planes.shape[1])),
        (0x00280011, "US", whole(planes.shape[0])),
        (0x00280030, "DS", _decimals(frame.spacing)),
        *((0x00280100 + k, "US", whole(value)) for k, value in enumerate(bits)),
    ]
    if plane.values is not None:
        stored = plane.values.astype(plane.values.dtype.newbyteorder("<"))
        path.write_bytes(dicom_file([*elements, (PIXELS, "OW", stored.tobytes())], plane.syntax))
    else:
        path.write_bytes(dicom_file(elements, plane.syntax) + packed_pixels(plane.packed))


def _decimals(values: Sequence[float]) -> bytes:
    """Numbers in the sixteen characters each of a DICOM decimal string."""
    from pydicom.valuerep import format_number_as_ds

    return "\\".join(format_number_as_ds(float(v)) for v in values).encode("ascii")


def _conflict(planes: Stack) -> Refused:
    counts = {len(slot) for slot in planes.slots}
    if len(counts) == 1:
        what = f"{counts.pop()} volumes in one series; which one is the scan is not guessed"
        return Refused("series", what, "Give the volume wanted as a series of its own")
    what = "Two files claim one position with different pictures"
    return Refused("conflicting-duplicates", what, EXPORT)
