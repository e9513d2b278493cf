"""Slices written anew for the converter: only geometry and voxels, under neutral names.

Nothing of the source's header goes into these files but the few numbers below, so neither a name
nor a vendor's private field can reach the converter, its output or its log.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from volta3d.prepare.dicom.files import Opener
from volta3d.prepare.dicom.geometry import Stack
from volta3d.prepare.dicom.header import EXPORT, NATIVE, Frame, quiet
from volta3d.prepare.dicom.neutral import (
    PIXELS,
    Element,
    dicom_file,
    packed_pixels,
    text,
    whole,
)
from volta3d.prepare.dicom.series import Series
from volta3d.prepare.findings import Finding, Refused

TAGS = (
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope",
    "RescaleIntercept", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "PixelData",
)  # fmt: skip
BIG_ENDIAN = "1.2.840.10008.1.2.2"
EXPLICIT = "1.2.840.10008.1.2.1"
STUDY, SERIES, PLACE = "2.25.1", "2.25.2", "2.25.3"  # the same for every scan
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"


@dataclass(frozen=True)
class Slice:
    """One plane as stored: its voxels or their compressed bytes, and what they mean.

    Args:
        values: [rows, columns] stored integers, None while compressed.
        packed: the compressed bytes, empty when ``values`` holds them.
        syntax: transfer syntax of ``packed``.
        bits: allocated, stored, high bit, representation, of the compressed values.
        slope, intercept: what a stored value means.
        inverted: MONOCHROME1, where small values are bright.
    """

    values: np.ndarray | None
    packed: bytes
    syntax: str
    bits: tuple[int, int, int, int]
    slope: float
    intercept: float
    inverted: bool

    def same(self, other: Slice) -> bool:
        """Whether two files hold one plane."""
        mine, theirs = (self.slope, self.intercept), (other.slope, other.intercept)
        if mine != theirs or self.packed != other.packed or self.inverted != other.inverted:
            return False
        if self.values is None or other.values is None:
            return self.values is other.values
        return bool(np.array_equal(self.values, other.values))


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
        source = _Source(opener)
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


class _Source:
    """Reads slices; a file of many frames is read once."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._last: tuple[Any, Any, str] | None = None

    def slice(self, frame: Frame) -> Slice:
        """The voxels of one frame.

        Raises:
            Refused: missing or unusable voxels.
        """
        try:
            if self._last is None or self._last[0] != frame.file:
                self._last = (frame.file, *self._read(frame))
            with quiet():
                return _slice(self._last[1], self._last[2], frame.index)
        except (Refused, OSError, MemoryError):
            raise
        except Exception as error:  # a broken file; the error's text may quote its header
            what = f"The voxels cannot be read ({type(error).__name__})"
            raise Refused("truncated-pixels", what, EXPORT) from error

    def _read(self, frame: Frame) -> tuple[Any, str]:
        import pydicom

        from volta3d.prepare.dicom.header import transfer_syntax

        with self._opener.open(frame.file) as stream:
            syntax = transfer_syntax(stream)
            stream.seek(0)
            with quiet():
                data = pydicom.dcmread(stream, force=True, specific_tags=list(TAGS))
                little = data.original_encoding[1]
        return data, (syntax or EXPLICIT) if little else BIG_ENDIAN


def _slice(data: Any, syntax: str, index: int) -> Slice:
    bits = (
        int(data.BitsAllocated),
        int(data.get("BitsStored", data.BitsAllocated)),
        int(data.get("HighBit", data.get("BitsStored", data.BitsAllocated) - 1)),
        int(data.get("PixelRepresentation", 0)),
    )
    if not (bits[0] in (8, 16) and 1 <= bits[1] <= bits[2] + 1 <= bits[0] and bits[3] in (0, 1)):
        raise Refused("no-decoder", "The stored bits make no sense", EXPORT)
    slope, intercept = _scaling(data, index)
    inverted = str(data.PhotometricInterpretation).strip().upper() == "MONOCHROME1"
    raw, count = bytes(data.PixelData), max(int(data.get("NumberOfFrames", 1) or 1), 1)
    shape = (int(data.Rows), int(data.Columns))
    if syntax in NATIVE:
        size = math.prod(shape) * bits[0] // 8
        if len(raw) < size * count:
            what = f"{size * count - len(raw)} bytes of voxels are missing"
            raise Refused("truncated-pixels", what, EXPORT)
        order = ">" if syntax == BIG_ENDIAN else "<"
        stored = np.frombuffer(raw, f"{order}u{bits[0] // 8}", math.prod(shape), index * size)
        return Slice(
            _integers(stored.reshape(shape), bits), b"", EXPLICIT, bits, slope, intercept, inverted
        )
    from pydicom.encaps import get_frame

    packed = get_frame(raw, index, number_of_frames=count)
    if not packed:
        raise Refused("truncated-pixels", "A slice without voxels", EXPORT)
    return Slice(None, packed, syntax, bits, slope, intercept, inverted)


def _integers(stored: np.ndarray, bits: tuple[int, int, int, int]) -> np.ndarray:
    """The bits that belong to the value, signed if they are (PS3.5 section 8.1.1)."""
    _, width, high, signed = bits
    values = (stored.astype(np.int32) >> (high + 1 - width)) & ((1 << width) - 1)
    if signed:
        values = np.where(values >= 1 << (width - 1), values - (1 << width), values)
        return values.astype(np.int16)
    return values.astype(np.uint16)


def _scaling(data: Any, index: int) -> tuple[float, float]:
    places = []
    for name, item in (
        ("PerFrameFunctionalGroupsSequence", index),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        groups = data.get(name)
        if groups:
            places += list(groups[item].get("PixelValueTransformationSequence") or [])[:1]
    for place in [*places, data]:
        if place.get("RescaleSlope") is not None:
            slope = float(place.RescaleSlope)
            intercept = float(place.get("RescaleIntercept") or 0)
            if slope == 0 or not (math.isfinite(slope) and math.isfinite(intercept)):
                raise Refused("bad-rescale", "The rescale slope makes no sense", EXPORT)
            return slope, intercept
    return 1.0, 0.0


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
