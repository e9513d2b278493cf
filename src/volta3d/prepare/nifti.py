"""Read one NIfTI file: header checked first, voxels in bounded memory, oddities as findings."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np

from volta3d.prepare.checks import (
    EXPORT,
    check_affine,
    check_offset,
    check_scaling,
    check_shape,
    check_type,
)
from volta3d.prepare.findings import Finding, Refused
from volta3d.prepare.inflate import DAMAGED, inflate

SUFFIXES = (".nii", ".nii.gz")
DEFLATE_LIMIT = 1032  # the largest ratio deflate can reach
TRAILING_LIMIT = 2**20  # bytes tolerated after the voxels
BLOCK = 2**20


@dataclass(frozen=True)
class Header:
    """What a checked header says.

    Args:
        shape: voxels per axis.
        affine: 4x4 from voxels to world mm.
        dtype: of the stored voxels, with their byte order.
        offset: of the voxels in the (decompressed) file.
        slope, intercept: stored values become value * slope + intercept.
        findings: what was noticed.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    findings: tuple[Finding, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the stored voxels."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Image:
    """A volume as stored: native axes, scaled values.

    Args:
        data: [I, J, K], in the stored type when nothing scales or narrows it, else float32.
        affine: 4x4 from voxels to world mm (RAS).
        findings: what was noticed about the header and the file.
    """

    data: np.ndarray
    affine: np.ndarray
    findings: tuple[Finding, ...]


def is_nifti(path: Path) -> bool:
    """Whether the name says NIfTI."""
    return path.name.lower().endswith(SUFFIXES)


def stem(path: Path) -> str:
    """The file name without .nii or .nii.gz."""
    name = path.name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return path.stem


def read_nifti(path: Path, *, narrow: bool = False) -> Image:
    """Read a 3D NIfTI-1 or NIfTI-2 file.

    Args:
        path: the file.
        narrow: whether voxels stored in more than two bytes become float32 block by block, so that
            no volume is ever held in eight bytes a voxel. What float32 cannot hold becomes
            infinite.

    Raises:
        Refused: with the reason and the way to fix it.
    """
    with _opened(path) as (stream, compressed, size):
        header = _read_header(stream)
        findings = list(header.findings)
        if compressed != path.name.lower().endswith(".gz"):
            is_, named = ("gzip", "not gzip") if compressed else ("not gzip", "gzip")
            findings.append(Finding("warning", "misnamed", f"The file is {is_}, its name {named}"))
        total = header.offset + header.nbytes
        if (total > size and not compressed) or total > DEFLATE_LIMIT * size:
            what = f"The header promises {total} bytes, the file has {size}"
            raise Refused("truncated", what + (" compressed" if compressed else ""), EXPORT)
        raw = _read_voxels(stream, header, narrow=narrow)
    data = raw.reshape(header.shape, order="F")
    if (header.slope, header.intercept) != (1.0, 0.0):
        data = data.astype(np.float32, copy=False)
        data *= np.float32(header.slope)
        data += np.float32(header.intercept)
    return Image(data, header.affine, tuple(findings))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, bool, int]]:
    """The decompressed stream, whether the file is compressed, and its size on disk."""
    try:
        size = path.stat().st_size
        if size == 0:
            raise Refused("empty-file", "The file is empty", EXPORT)
        with path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if compressed:
                with inflate(file) as unpacked:
                    yield unpacked, True, size
            else:
                yield file, False, size
    except gzip.BadGzipFile as error:
        raise Refused("crc", f"The compressed file is damaged: {error}", EXPORT) from error
    except DAMAGED as error:
        raise Refused("truncated", f"The compressed file is damaged: {error}", EXPORT) from error
    except OSError as error:
        raise Refused("unreadable", f"The file cannot be read: {error}", "Check it") from error


def _read_header(stream: BinaryIO) -> Header:
    block = stream.read(540)
    if len(block) < 348:
        raise Refused("truncated", f"The file ends after {len(block)} bytes", EXPORT)
    header = _parse(block)
    shape, found = check_shape(header)
    dtype = check_type(header)
    offset, at = check_offset(header)
    slope, intercept, scaled = check_scaling(header)
    affine, placed = check_affine(header, shape)
    stream.seek(0)
    return Header(shape, affine, dtype, offset, slope, intercept, (*found, *at, *scaled, *placed))


def _parse(block: bytes) -> Any:
    kinds = {348: (nib.Nifti1Header, 348, 344, b"n+1\0"), 540: (nib.Nifti2Header, 540, 4, b"n+2\0")}
    for endianness, name in (("<", "little"), (">", "big")):
        size = int.from_bytes(block[:4], name)  # type: ignore[arg-type]
        if size in kinds and len(block) >= size:
            kind, length, at, magic = kinds[size]
            found = block[at : at + 4]
            if found == magic:
                return kind(block[:length], endianness=endianness, check=False)
            if found[:2] == b"ni":
                raise Refused("pair", "Half of an .hdr/.img pair", "Save it as one .nii.gz file")
    raise Refused("bad-magic", "Not a NIfTI file", EXPORT)


def _read_voxels(stream: BinaryIO, header: Header, *, narrow: bool = False) -> np.ndarray:
    """Exactly the promised bytes, then to the end of the stream so that its checksum is seen."""
    if len(stream.read(header.offset)) < header.offset:
        raise Refused("truncated", "The file ends before its first voxel", EXPORT)
    if narrow and header.dtype.itemsize > 2:
        count = math.prod(header.shape)
        voxels = np.empty(count, np.float32)
        with np.errstate(over="ignore"):
            for start in range(0, count, BLOCK):
                voxels[start : start + BLOCK] = _fill(stream, header, min(BLOCK, count - start))
    else:
        voxels = _fill(stream, header, math.prod(header.shape))
    trailing = 0
    while rest := stream.read(BLOCK):
        trailing += len(rest)
        if trailing > TRAILING_LIMIT:
            raise Refused("trailing-data", "The file goes on long after its last voxel", EXPORT)
    return voxels


def _fill(stream: BinaryIO, header: Header, count: int) -> np.ndarray:
    """The next ``count`` voxels of the stream, as stored."""
    raw, filled = np.empty(count * header.dtype.itemsize, np.uint8), 0
    view = memoryview(raw)  # type: ignore[arg-type]
    while filled < len(raw):
        got = stream.readinto(view[filled : filled + 8 * BLOCK])  # type: ignore[attr-defined]
        if not got:
            raise Refused("truncated", f"{len(raw) - filled} bytes of voxels missing", EXPORT)
        filled += got
    return raw.view(header.dtype)
