"""The bias field of the coil, found by N4 on a coarse copy and divided out (extra ``bias``).

Tustison et al., N4ITK: improved N3 bias correction, IEEE TMI 29 (2010), as SimpleITK has it.
"""

from __future__ import annotations

import numpy as np

from volta3d.errors import UsageError
from volta3d.prepare.checks import voxel_sizes
from volta3d.prepare.findings import Finding
from volta3d.prepare.foreground import average, otsu
from volta3d.prepare.resample import resample

COARSE_MM = 4.0
ITERATIONS = (50, 50, 30)  # at each of three ever finer grids of control points
STRONG = 3.0  # a field that changes by this factor within the head is worth a look


def require_simpleitk() -> None:
    """Make sure that N4 can run before any work starts.

    Raises:
        UsageError: SimpleITK is not installed.
    """
    try:
        import SimpleITK  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "bias=n4 needs SimpleITK", fix="Install it with: pip install 'volta3d[bias]'"
        ) from error


def correct_bias(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, list[Finding]]:
    """A volume divided by its bias field, in place.

    The field is smooth, so it is estimated on blocks of about 4 mm above Otsu's threshold and
    interpolated. It is scaled to a geometric mean of 1 there. One thread: the same field each time.

    Args:
        data: float32 [I, J, K], finite.
        affine: 4x4 from voxels to world mm.
    """
    blocks = [max(1, round(COARSE_MM / z)) for z in voxel_sizes(affine)]
    coarse = average(data, blocks)
    mask = (coarse > otsu(coarse)) & (coarse > 0)
    if not mask.any():
        return data, []
    log_field = _n4(coarse, mask, voxel_sizes(affine) * blocks)
    log_field -= log_field[mask].mean()
    to_coarse = np.diag([*(1 / np.array(blocks)), 1.0])
    to_coarse[:3, 3] = -(np.array(blocks) - 1) / 2 * np.diag(to_coarse)[:3]
    padded = np.pad(log_field, 1, mode="edge")  # the outermost half block has a field too
    to_coarse[:3, 3] += 1
    field = resample(padded, to_coarse, data.shape, outside=0.0)
    data /= np.exp(field, out=field)
    low, high = np.percentile(log_field[mask], (1, 99))
    factor = float(np.exp(high - low))
    if factor <= STRONG:
        return data, []
    what = f"The bias field changed by a factor of {factor:.1f} within the head"
    return data, [Finding("warning", "strong-bias", what, "Look at the corrected scan")]


def _n4(coarse: np.ndarray, mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """The logarithm of the field, float32 like ``coarse``."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    image = sitk.GetImageFromArray(np.ascontiguousarray(coarse.T, np.float32))
    where = sitk.GetImageFromArray(np.ascontiguousarray(mask.T, np.uint8))
    for each in (image, where):
        each.SetSpacing([float(s) for s in spacing])
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations(ITERATIONS)
    corrector.Execute(image, where)
    field = corrector.GetLogBiasFieldAsImage(image)
    return np.ascontiguousarray(sitk.GetArrayFromImage(field).T, np.float32)
