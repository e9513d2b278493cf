"""One series to one NIfTI file, with the converter's work checked.

The file's header is made from zero: shape, type and the affine that the DICOM standard gives. What
the converter wrote must agree with it, and with the voxels of every uncompressed slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np

from volta3d.prepare.dicom.converter import FIX, SECONDS, run_converter
from volta3d.prepare.dicom.geometry import TILT_DEGREES, Stack, stack
from volta3d.prepare.dicom.series import Series
from volta3d.prepare.dicom.stage import Staged, checksum_of, stage
from volta3d.prepare.findings import Finding, Refused
from volta3d.prepare.nifti import read_nifti

AGREE_MM = 0.05  # by which a corner may differ: decimal strings round positions to 1e-3 or less
BURNED_PIXELS = 24  # saturated in every slice, in the margin, before text is suspected
MARGIN = 0.15


def convert(
    series: Series,
    target: Path,
    *,
    command: Sequence[str] = (),
    seconds: float = SECONDS,
) -> tuple[Finding, ...]:
    """Write a series as the NIfTI file ``target``; return what was noticed.

    Args:
        series: of a survey.
        target: to be written; a folder beside it is used and removed.
        command, seconds: of the converter.

    Raises:
        Refused: the series or the converter's result is not fit for use.
    """
    planes = stack(series.frames, series.header.rows, series.header.columns)
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="dicom-", dir=target.parent) as work:
        staged, out = Path(work) / "in", Path(work) / "out"
        staged.mkdir()
        out.mkdir()
        written = stage(series, planes, staged)
        made = run_converter(staged, out, command=command, seconds=seconds)
        stored, chosen = _choose(made, planes, written)
    data, noticed = _values(stored, written)
    image = nib.Nifti1Image(data, None)
    image.set_sform(planes.affine, code=1)
    image.set_qform(None, code=0)
    image.header.set_xyzt_units("mm")
    target.write_bytes(image.to_bytes())
    return (*written.findings, *chosen, *noticed)


def _choose(
    made: Sequence[Path], planes: Stack, written: Staged
) -> tuple[np.ndarray, tuple[Finding, ...]]:
    """The one output whose grid and voxels are the DICOM's, as [column, row, slice].

    A tilted or irregular stack makes the converter write corrected copies beside the plain one.

    Raises:
        Refused: there is none.
    """
    reasons = []
    for path in made:
        try:
            stored = _in_dicom_order(path, planes)
            _compare(stored, planes, written)
        except Refused as error:
            reasons.append(error.finding)
            continue
        if len(made) == 1:
            return stored, ()
        others = ", ".join(p.name for p in made if p != path)
        what = f"The converter wrote {len(made)} volumes; took {path.name}, whose grid and voxels "
        what += f"are the DICOM's, not {others}"
        return stored, (Finding("info", "converter-outputs", what),)
    first = reasons[0]
    raise Refused(first.code, first.what, first.how_to_fix)


def _in_dicom_order(path: Path, planes: Stack) -> np.ndarray:
    image = read_nifti(path)
    expected = _upright(planes) if planes.tilt > TILT_DEGREES else planes.affine
    between = np.linalg.inv(expected) @ image.affine
    axes = np.rint(between[:3, :3]).astype(int)
    turned = np.abs(axes).sum(axis=0).tolist() == [1, 1, 1] == np.abs(axes).sum(axis=1).tolist()
    if not turned:
        raise Refused("converter-mismatch", "The converter turned the volume", FIX)
    order = [int(np.abs(axes[row]).argmax()) for row in range(3)]
    data = np.transpose(image.data, order)
    if data.shape != planes.shape:
        what = f"The converter made {data.shape} voxels of a series of {planes.shape}"
        raise Refused("converter-mismatch", what, FIX)
    flips = [axes[row, order[row]] < 0 for row in range(3)]
    exact = np.zeros((4, 4))
    exact[3, 3] = 1
    for row in range(3):
        exact[row, order[row]] = axes[row, order[row]]
        exact[row, 3] = (planes.shape[row] - 1) if flips[row] else 0
    if planes.tilt <= TILT_DEGREES:
        _check_corners(image.affine, expected @ exact, image.data.shape)
    return data[tuple(slice(None, None, -1 if f else 1) for f in flips)]


def _upright(planes: Stack) -> np.ndarray:
    """The affine with the slices stacked along their normal, as a converter that ignores tilt does.

    Of its result only the order of axes and slices is used, which the checksums prove.
    """
    affine = planes.affine.copy()
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    normal *= np.sign(normal @ affine[:3, 2]) / np.linalg.norm(normal)
    affine[:3, 2] = normal * np.linalg.norm(affine[:3, 2])
    return affine


def _check_corners(found: np.ndarray, expected: np.ndarray, shape: tuple[int, ...]) -> None:
    corners = np.array(np.meshgrid(*((0, n - 1) for n in shape))).reshape(3, -1)
    corners = np.vstack([corners, np.ones((1, corners.shape[1]))])
    apart = float(np.linalg.norm(((found - expected) @ corners)[:3], axis=0).max())
    if apart > AGREE_MM:
        what = f"The converter placed a corner {apart:.2f} mm from where the DICOM headers do"
        raise Refused("converter-mismatch", what, FIX)


def _compare(stored: np.ndarray, planes: Stack, written: Staged) -> None:
    if planes.tilt > TILT_DEGREES and None in written.checksums:
        what = "Tilted slices that are compressed: their order cannot be checked"
        raise Refused("gantry-tilt", what, "Export the series uncompressed")
    for number, checksum in enumerate(written.checksums):
        if checksum is not None and checksum_of(stored[:, :, number].T) != checksum:
            what = f"The converter's slice {number + 1} has other voxels than the DICOM file"
            raise Refused("converter-mismatch", what, FIX)


def _values(stored: np.ndarray, written: Staged) -> tuple[np.ndarray, list[Finding]]:
    """Rescaled, upright in brightness; integers stay integers where nothing scales them."""
    findings, data = [], stored
    if (written.slopes != 1).any() or (written.intercepts != 0).any():
        data = stored * written.slopes.astype(np.float32) + written.intercepts.astype(np.float32)
        what = "Stored values were rescaled to what the header says they mean"
        if len(np.unique(written.slopes)) > 1:
            what += ", slice by slice"
        findings.append(Finding("info", "rescaled", what))
    if written.inverted:
        data = (data.max() + data.min() - data.astype(np.float32)).astype(np.float32)
        what = "MONOCHROME1: small values were bright; inverted"
        findings.append(Finding("info", "monochrome1", what))
    if _looks_burned_in(stored):
        what = "The same saturated pixels in the margin of every slice: text may be burned in"
        findings.append(
            Finding("warning", "perhaps-burned-in", what, "Look at it in qc/index.html")
        )
    return np.ascontiguousarray(data), findings


def _looks_burned_in(stored: np.ndarray) -> bool:
    always = (stored == stored.max()).all(axis=2)
    rows, columns = (max(1, int(MARGIN * n)) for n in always.shape)
    always[rows:-rows, columns:-columns] = False
    return bool(BURNED_PIXELS <= np.count_nonzero(always) < always.size // 4)
