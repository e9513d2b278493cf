"""Label maps from files: NIfTI, or the MGH files of FreeSurfer and FastSurfer."""

from __future__ import annotations

import gzip
import math
from io import BufferedIOBase
from pathlib import Path

import nibabel as nib
import numpy as np

from volta3d.downstream.segmentation.native import Grid
from volta3d.errors import VoltaError
from volta3d.prepare.checks import MAX_VOXELS
from volta3d.prepare.findings import Refused
from volta3d.prepare.formats import is_nifti, stem
from volta3d.prepare.geometry import mapping_to, same_grid
from volta3d.prepare.nifti import read_nifti
from volta3d.prepare.resample import resample_nearest
from volta3d.prepare.voxels import DEFLATE_LIMIT

FIX = "Correct the label map, or take it out of the folder"
WHOLE = (
    "Save it as whole numbers: 1 where a probability is above .5, or, of a map for each class, the "
    "number of the class with the highest"
)
ONE_VOLUME = (
    "Save one 3D label map for each scan: of a volume for each class, the number of the class with "
    "the highest value"
)
# what helps a label map is not what helps a scan
FIXES = {
    "series": ONE_VOLUME,
    "no-orientation": "Give it the header of the scan it was drawn on (FSL: fslcpgeom SCAN LABELS)",
}
MGH = (".mgz", ".mgh")


def is_mgh(path: Path) -> bool:
    """Whether the name says that FreeSurfer or FastSurfer wrote it."""
    return path.name.lower().endswith(MGH)


def is_labelmap(path: Path) -> bool:
    """Whether the name is one of a file that ``read_classes`` reads."""
    return is_nifti(path) or is_mgh(path)


def name_of(path: Path) -> str:
    """The file name without .nii, .nii.gz, .mgz or .mgh."""
    return path.stem if is_mgh(path) else stem(path)


def read_classes(path: Path) -> tuple[np.ndarray, Grid]:
    """A label map as whole numbers on its own grid.

    Returns:
        uint16 [I, J, K], and where its voxels lie.

    Raises:
        VoltaError: unreadable, fractions, negative values, or beyond 65535.
    """
    data, affine = _read_mgh(path) if is_mgh(path) else _read_nifti(path)
    if data.dtype.kind == "f":
        _require_whole_numbers(data, path)
        data = np.round(data)
    if data.min() < 0 or data.max() > 65535:
        raise VoltaError("The label map leaves 0 to 65535", where=path, fix=FIX)
    shape = (data.shape[0], data.shape[1], data.shape[2])
    return data.astype(np.uint16), Grid(shape, affine)


def _require_whole_numbers(data: np.ndarray, where: Path) -> None:
    unknown = int((~np.isfinite(data)).sum())
    if unknown:
        raise VoltaError(
            f"The label map is NaN or infinite in {unknown} voxels",
            where=where,
            fix="Set them to 0, the number of the background (numpy.nan_to_num)",
        )
    if np.abs(data - np.round(data)).max() > 1e-3:
        raise VoltaError(
            f"The label map has fractions, as a probability map has: {data.min():.3g} to "
            f"{data.max():.3g}",
            where=where,
            fix=WHOLE,
        )


def on_grid(labels: np.ndarray, own: Grid, wanted: Grid, where: Path) -> tuple[np.ndarray, bool]:
    """A label map on the reference's grid, and whether it had to be resampled (nearest).

    Raises:
        VoltaError: the two don't overlap in the world.
    """
    if same_grid(own.affine, wanted.affine, own.shape, wanted.shape):
        return labels, False
    mapping = mapping_to(own.affine, wanted.affine)
    moved = resample_nearest(labels, mapping, wanted.shape)
    if labels.any() and not moved.any():
        raise VoltaError(
            "The label map and its reference do not overlap in the world",
            where=where,
            fix="Both must be in the space of the same scan; bring it there "
            "(FreeSurfer: mri_label2vol or mri_convert -rl), or correct its header",
        )
    return moved, True


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        image = read_nifti(path)
    except Refused as error:
        known = error.finding
        what = known.what.split("; which one is the T1w")[0]
        fix = FIXES.get(known.code, known.how_to_fix)
        raise VoltaError(what, where=path, fix=fix) from error
    return np.asarray(image.data), image.affine


def _read_mgh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels [I, J, K] and affine."""
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not compressed:
                return _mgh_volume(file, path.stat().st_size)
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _mgh_volume(unpacked, DEFLATE_LIMIT * path.stat().st_size)
    except Exception as error:  # whatever a broken file provokes, the others go on
        what = f"The MGH file cannot be read: {error or type(error).__name__}"
        raise VoltaError(what, where=path, fix="Fetch or restore the file") from error


def _mgh_volume(stream: BufferedIOBase, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The only volume of a stream of ``most`` bytes, sizes checked before a voxel is read."""
    image = nib.MGHImage.from_stream(stream)
    shape, voxels = image.shape, math.prod(image.shape)
    if len(shape) != 3 or min(shape) < 1 or voxels > MAX_VOXELS:
        raise ValueError(f"not one volume: {shape} voxels")
    if voxels * image.header.get_data_dtype().itemsize > most:
        raise ValueError(f"it is too short for {shape} voxels")
    affine = np.array(image.affine, np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ValueError("its affine is singular or not finite")
    return np.asarray(image.dataobj), affine
