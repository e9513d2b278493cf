"""Read a NIfTI file, or a NIfTI pair: header checked first, oddities as findings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib

from volta3d.prepare.checks import (
    EXPORT,
    check_affine,
    check_offset,
    check_scaling,
    check_shape,
    check_type,
)
from volta3d.prepare.fetched import pointer
from volta3d.prepare.findings import Finding, Refused
from volta3d.prepare.formats import partner
from volta3d.prepare.voxels import Header, Image, opened, read_volume

ANALYZE = (
    "An Analyze image: its header does not say where left and right are",
    "Convert it where its sides are known, for instance with FreeSurfer's mri_convert, and check "
    "left and right there",
)


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
    with opened(path) as (stream, compressed, size):
        header = _read_header(stream)
        if compressed != path.name.lower().endswith(".gz"):
            is_, named = ("gzip", "not gzip") if compressed else ("not gzip", "gzip")
            note = Finding("warning", "misnamed", f"The file is {is_}, its name {named}")
            header = replace(header, findings=(*header.findings, note))
        return read_volume(stream, header, size, compressed=compressed, narrow=narrow)


def read_pair(path: Path, *, narrow: bool = False) -> Image:
    """Read the ``.img`` file of a NIfTI pair by its ``.hdr`` file.

    Raises:
        Refused: no NIfTI header, such as that of Analyze 7.5, which says nothing of left and right;
            or as ``read_nifti``.
    """
    beside = partner(path)
    if beside is None or not beside.is_file():
        what, fix = "Half of a pair: its .hdr file is not there", "Put it beside the .img file"
        raise Refused("pair", what, fix)
    with opened(beside) as (stream, _, _):
        block = stream.read(540)
    header = _checked(_parse(block, pair=True), pair=True)
    with opened(path) as (stream, compressed, size):
        return read_volume(stream, header, size, compressed=compressed, narrow=narrow)


def _read_header(stream: BinaryIO) -> Header:
    block = stream.read(540)
    if (elsewhere := pointer(block)) is not None:  # compressed before it was lost
        raise Refused(elsewhere.code, elsewhere.what, elsewhere.how_to_fix)
    header = _checked(_parse(block))
    stream.seek(0)
    return header


def _checked(header: Any, *, pair: bool = False) -> Header:
    shape, found = check_shape(header)
    dtype = check_type(header)
    offset, at = (int(header["vox_offset"]), []) if pair else check_offset(header)
    if pair and not 0 <= offset <= 2**24:
        raise Refused("bad-offset", f"The header's data offset is {offset}", EXPORT)
    slope, intercept, scaled = check_scaling(header)
    affine, placed = check_affine(header, shape)
    return Header(shape, affine, dtype, offset, slope, intercept, (*found, *at, *scaled, *placed))


def _parse(block: bytes, *, pair: bool = False) -> Any:
    if len(block) < 348:
        raise Refused("truncated", f"The file ends after {len(block)} bytes", EXPORT)
    magic = (b"ni1\0", b"ni2\0") if pair else (b"n+1\0", b"n+2\0")
    kinds = {
        348: (nib.Nifti1Header, 348, 344, magic[0]),
        540: (nib.Nifti2Header, 540, 4, magic[1]),
    }
    for endianness, name in (("<", "little"), (">", "big")):
        size = int.from_bytes(block[:4], name)  # type: ignore[arg-type]
        if size in kinds and len(block) >= size:
            kind, length, at, expected = kinds[size]
            found = block[at : at + 4]
            if found == expected:
                return kind(block[:length], endianness=endianness, check=False)
            if found[:2] == b"ni":
                raise Refused("pair", "Half of an .hdr/.img pair", "Save it as one .nii.gz file")
            if pair and size == 348:
                raise Refused("no-orientation", *ANALYZE)
    raise Refused("bad-magic", "Not a NIfTI file", EXPORT)
