"""What the values of a volume say that it is: a scan, a label map or a map of probabilities."""

from __future__ import annotations

import numpy as np

from volta3d.prepare.findings import Finding, Refused

PLANES = 12  # that are looked at; all of them where these hold too little
ENOUGH = 200  # pairs of neighbouring voxels that are no background
SAMPLE = 2**15
FEW, MANY = 16, 3000  # different values: of masks and small label maps; of the largest atlases
ALIKE = 0.6  # share of neighbours with the same value: scans have noise
STEP, SMOOTH = 2, 0.5  # of neighbours that differ, few differ by so little in an atlas
LIKELY, CERTAIN = 0.05, 0.995
SURE = 0.2  # share of the likely voxels of a probability map that are certain
SHORTEST_MM = 100.0  # of a field of view; an adult's brain needs 130 x 160 x 110 mm
LEAST_ML, MOST_ML = 300.0, 3000.0
WITH_NECK_ML = 5000.0  # two in five heads of IXI hold more than 3,000 ml
NOTHING = "Nothing to do, unless it should have been a scan: then look at it"


def check_values(data: np.ndarray) -> None:
    """Make sure that a volume may be a scan.

    Args:
        data: [I, J, K], scaled, of any type; NaN where nothing is known.

    Raises:
        Refused: it holds whole structures of one value each, or probabilities.
    """
    step = max(1, data.shape[2] // PLANES)
    some = data[:, :, ::step]
    hidden = step > 1 and some.min() == some.max()  # by chance no voxel of a small mask
    if (_is_labels(some) or hidden) and (step == 1 or _is_labels(data)):
        what = "A label map or a mask by its values: structures of one constant value each"
        raise Refused("label-map", what, NOTHING)
    if data.dtype.kind == "f" and _is_probability(data[:, :, ::step]):
        what = "A map of probabilities by its values: from 0 to 1, and many voxels nearly 1"
        raise Refused("probability-map", what, NOTHING)


def about_field(shape: tuple[int, ...], sizes: np.ndarray) -> list[Finding]:
    """A finding on a field of view that is too small for a head.

    Args:
        shape: voxels per axis.
        sizes: edge lengths of a voxel in mm, [3].
    """
    edges = np.array(shape) * sizes
    if edges.min() >= SHORTEST_MM:
        return []
    listed = " x ".join(f"{e:.0f}" for e in edges)
    what = f"A field of view of {listed} mm, too small for a whole head"
    fix = "Leave it out of a cohort of whole heads"
    return [Finding("warning", "small-field-of-view", what, fix)]


def about_volume(mm3: float) -> list[Finding]:
    """A finding on what stands out from the background when it has not the volume of a head."""
    ml = mm3 / 1000
    if LEAST_ML <= ml <= MOST_ML:
        return []
    what = f"What stands out holds {ml:.0f} ml, outside of {LEAST_ML:.0f} to {MOST_ML:.0f} ml"
    if MOST_ML < ml <= WITH_NECK_ML:
        return [Finding("info", "odd-head-volume", what + ", as a large head with a neck may")]
    return [Finding("warning", "odd-head-volume", what, "Look at it in qc/index.html")]


def _is_labels(planes: np.ndarray) -> bool:
    sample = planes.ravel(order="K")[:: max(1, planes.size // SAMPLE)]
    values, counts = np.unique(sample, return_counts=True)
    if len(values) > MANY:
        return False
    first, second = planes[:-1], planes[1:]
    commonest = values[counts.argmax()]
    inside = (first != commonest) & (second != commonest)
    if planes.dtype.kind == "f":
        inside &= np.isfinite(first) & np.isfinite(second)
    first, second = first[inside], second[inside]
    if not first.size or (first == second).sum() < ALIKE * first.size:
        return False
    present = np.unique(planes[np.isfinite(planes)])
    if len(present) == 2:
        return True
    if first.size < ENOUGH:
        return False
    steps = np.abs(first.astype(np.float64) - second)
    if len(present) <= FEW:
        return True
    little = (steps[steps > 0] <= STEP).mean() if (steps > 0).any() else 0.0
    return bool((present == np.round(present)).all() and little < SMOOTH)


def _is_probability(planes: np.ndarray) -> bool:
    values = planes[np.isfinite(planes)]
    if not values.size or values.min() < 0 or values.max() > 1.0001 or values.max() < CERTAIN:
        return False
    likely = values > LIKELY
    count = int(likely.sum())
    return 0 < count < 0.8 * values.size and bool((values >= CERTAIN).sum() >= SURE * count)
