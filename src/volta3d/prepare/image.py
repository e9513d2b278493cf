"""One volume from a file of any format that is read."""

from __future__ import annotations

from pathlib import Path

from volta3d.files import content_hash, sha256
from volta3d.prepare.formats import ending, partner
from volta3d.prepare.mgh import read_mgh
from volta3d.prepare.minc import read_minc
from volta3d.prepare.nifti import read_nifti, read_pair
from volta3d.prepare.voxels import Image


def read_image(path: Path, *, narrow: bool = False) -> Image:
    """Read a 3D volume: NIfTI, a NIfTI pair by its ``.img`` file, MGH or MINC.

    Args:
        path: the file; whatever its name does not say is read as NIfTI.
        narrow: as ``read_nifti``.

    Raises:
        Refused: with the reason and the way to fix it.
    """
    kind = ending(path)
    if kind in (".mgz", ".mgh"):
        return read_mgh(path, narrow=narrow)
    if kind == ".img":
        return read_pair(path, narrow=narrow)
    return read_minc(path) if kind == ".mnc" else read_nifti(path, narrow=narrow)


def image_sha256(path: Path) -> str:
    """The SHA-256 of a volume's file, or of both files of a pair.

    Raises:
        OSError: it cannot be read.
    """
    beside = partner(path)
    if beside is None or not beside.is_file():
        return sha256(path)
    return content_hash([sha256(beside), sha256(path)])
