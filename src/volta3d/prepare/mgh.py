"""Read the MGH files of FreeSurfer and FastSurfer (.mgz, .mgh)."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np

from volta3d.prepare.checks import EXPORT, check_size, check_voxels
from volta3d.prepare.findings import Refused
from volta3d.prepare.voxels import Header, Image, opened, read_volume

START = 284  # of the voxels
TYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}


def read_mgh(path: Path, *, narrow: bool = False) -> Image:
    """Read a 3D MGH file, compressed or not.

    Args:
        path: the file.
        narrow: as ``read_nifti``.

    Raises:
        Refused: with the reason and the way to fix it.
    """
    with opened(path) as (stream, compressed, size):
        block = stream.read(START)
        if len(block) < START:
            raise Refused("truncated", f"The file ends after {len(block)} bytes", EXPORT)
        header = _parse(block)
        stream.seek(0)
        return read_volume(stream, header, size, compressed=compressed, narrow=narrow)


def _parse(block: bytes) -> Header:
    numbers = np.frombuffer(block[:28], ">i4").tolist()
    version, *dims, kind, _ = numbers
    if version != 1:
        raise Refused("bad-magic", "Not an MGH file", EXPORT)
    shape = check_size([d for n, d in enumerate(dims) if n < 3 or d != 1], dims)
    if kind not in TYPES:
        raise Refused("bad-type", f"MGH data type {kind} is not supported", EXPORT)
    good = int.from_bytes(block[28:30], "big", signed=True)
    if good <= 0:  # then FreeSurfer supposes a coronal volume, which nothing confirms
        raise Refused(
            "no-orientation",
            "The header does not say how the volume lies, so left and right are unknown",
            "Convert from DICOM again, or set its orientation after checking the sides",
        )
    header = nib.freesurfer.mghformat.MGHHeader(block[:90] + bytes(194), check=False)
    affine, findings = check_voxels(np.array(header.get_affine(), np.float64))
    if not math.isfinite(float(np.abs(affine).sum())):
        raise Refused("bad-affine", "The affine is not finite", EXPORT)
    return Header(shape, affine, np.dtype(TYPES[kind]), START, 1.0, 0.0, tuple(findings))
