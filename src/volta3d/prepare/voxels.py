"""Voxels out of a file whose header is known, in bounded memory and with its checksum seen."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from volta3d.prepare.checks import EXPORT
from volta3d.prepare.fetched import missing_content, pointer
from volta3d.prepare.findings import Finding, Refused
from volta3d.prepare.inflate import DAMAGED, inflate

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


def read_volume(
    stream: BinaryIO, header: Header, size: int, *, compressed: bool, narrow: bool = False
) -> Image:
    """The volume that a header promises.

    Args:
        stream: decompressed, at its start.
        header: checked.
        size: bytes of the file on disk.
        compressed: whether these are fewer than the stream has.
        narrow: as ``read_image``.

    Raises:
        Refused: it promises more than the file can hold, or than it holds.
    """
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
    return Image(data, header.affine, header.findings)


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, bool, int]]:
    """The decompressed stream, whether the file is compressed, and its size on disk."""
    try:
        size = path.stat().st_size
        if size == 0:
            raise Refused("empty-file", "The file is empty", EXPORT)
        with path.open("rb") as file:
            head = file.read(256)
            if (elsewhere := pointer(head)) is not None:
                raise Refused(elsewhere.code, elsewhere.what, elsewhere.how_to_fix)
            compressed = head[:2] == b"\x1f\x8b"
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
        elsewhere = missing_content(path)
        if elsewhere is not None:
            raise Refused(elsewhere.code, elsewhere.what, elsewhere.how_to_fix) from error
        raise Refused("unreadable", f"The file cannot be read: {error}", "Check it") from error


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
