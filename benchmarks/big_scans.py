"""Scans to measure with: a synthetic head on the grid of a sagittal MPRAGE, copies, a huge one."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip

from volta3d.phantom.anatomy import load_anatomy
from volta3d.phantom.head import make_head
from volta3d.phantom.scanner import CENTRE, SCANNERS, acquire
from volta3d.phantom.subject import draw_subject

SHAPE = (288, 288, 181)
FIELD = (270.0, 270.0, 217.0)  # mm along those axes


def make_scan(path: Path, shape: tuple[int, int, int] = SHAPE) -> Path:
    """A head of volta3d's phantom as int16, axes to the back, top and right; made once."""
    if path.exists():
        return path
    subject = draw_subject(1, 0)
    scanner = SCANNERS[subject.site]
    back, up, right = (length / n for length, n in zip(FIELD, shape, strict=True))
    affine = np.zeros((4, 4))
    affine[1, 0], affine[2, 1], affine[0, 2], affine[3, 3] = -back, up, right, 1
    affine[:3, 3] = np.array(CENTRE) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    head = make_head(load_anatomy(1), subject, 0, affine, shape)
    image = acquire(head, scanner, affine, subject, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(image, affine), path)
    return path


def make_copies(scan: Path, folder: Path, count: int) -> Path:
    """A BIDS folder of ``count`` people, all with the same head but different bytes."""
    raw = bytearray(igzip.decompress(scan.read_bytes()))
    for number in range(1, count + 1):
        name = f"sub-{number:03d}"
        target = folder / name / "anat" / f"{name}_T1w.nii.gz"
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        raw[148 : 148 + 8] = f"{number:08d}".encode()  # the free text of the header
        target.write_bytes(igzip.compress(bytes(raw), 1))
    return folder


def make_huge(path: Path, scan: Path, edge: int, dtype: str, oblique: bool) -> Path:
    """A cube of ``edge`` voxels that spans 256 mm: the head of ``scan``, enlarged, with noise."""
    if path.exists():
        return path
    small = np.asarray(nib.load(scan).dataobj, np.float32)
    picks = [np.arange(edge) * n // edge for n in small.shape]
    rng = np.random.default_rng(0)
    zoom = 256.0 / edge
    affine = np.array([[0, 0, zoom, -128], [-zoom, 0, 0, 128], [0, zoom, 0, -128], [0, 0, 0, 1.0]])
    if oblique:
        angle = np.radians(7)
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        affine = turn @ affine
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape((edge,) * 3)
    header.set_sform(affine, 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    path.parent.mkdir(parents=True, exist_ok=True)
    with igzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.binaryblock + b"\0" * 4)
        for k in picks[2]:
            plane = small[np.ix_(picks[0], picks[1], [k])][..., 0]
            plane = plane + rng.normal(0, 4, plane.shape)
            file.write(np.asfortranarray(plane.clip(0)).astype(dtype).tobytes(order="F"))
    return path
