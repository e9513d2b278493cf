"""The voxels of one slice as stored, whole, or a typed refusal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from volta3d.prepare.dicom.files import Opener
from volta3d.prepare.dicom.header import EXPORT, NATIVE, Frame, quiet, transfer_syntax
from volta3d.prepare.findings import Refused

TAGS = (
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope",
    "RescaleIntercept", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "PixelData",
)  # fmt: skip
BIG_ENDIAN = "1.2.840.10008.1.2.2"
EXPLICIT = "1.2.840.10008.1.2.1"


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


class SliceReader:
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
