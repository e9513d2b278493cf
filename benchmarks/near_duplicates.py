"""How far apart the perceptual hashes of different brains and of one brain's copies lie.

Run: python benchmarks/near_duplicates.py COHORT [SAME_SCANS_PREPARED_OTHERWISE]
Prints JSON. Copies are changed in the ways images are: noise, blur, gamma, a bias field, a shift by
one voxel, rotations with shifts, a coarser grid, the lowest 15 % of the volume cut off. ``recall``
is the share of copies within the threshold that ``audit`` uses.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from volta3d.cohort.phash import NEAR, hash_distances, perceptual_hash
from volta3d.cohort.store import Cohort
from volta3d.randomness import numpy_generator

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _moved(degrees: float) -> Change:
    """Turned about any axis through the centre and moved by up to 1.5 voxels an axis."""

    def change(volume: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        axis = rng.normal(size=3)
        matrix = Rotation.from_rotvec(np.deg2rad(degrees) * axis / np.linalg.norm(axis)).as_matrix()
        centre = (np.array(volume.shape) - 1) / 2
        offset = centre - matrix @ centre + rng.uniform(-1.5, 1.5, 3)
        return ndimage.affine_transform(volume, matrix, offset, order=1)

    return change


def _bias(volume: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    ramp = np.linspace(-1, 1, len(volume))
    slopes = rng.uniform(-0.2, 0.2, 3)
    field = 1 + slopes[0] * ramp[:, None, None] + slopes[1] * ramp[:, None] + slopes[2] * ramp
    return np.clip(volume * field, 0, 1)


def _cut(volume: np.ndarray, _: np.random.Generator) -> np.ndarray:
    cut = volume.copy()
    cut[:, :, : round(0.15 * volume.shape[2])] = 0
    return cut


def _rescanned(volume: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    changed = _bias(_moved(5)(volume, rng), rng)
    return np.clip(changed + rng.normal(0, 0.03, volume.shape), 0, 1)


EVERY = 3  # of the scans are changed
CHANGES: dict[str, Change] = {
    "noise of 5 % of the range": lambda v, r: np.clip(v + r.normal(0, 0.05, v.shape), 0, 1),
    "blur, sigma one voxel": lambda v, _: ndimage.gaussian_filter(v, 1.0),
    "gamma 0.8": lambda v, _: v**0.8,
    "bias field of up to 20 % an axis": _bias,
    "shift by one voxel": lambda v, r: np.roll(v, 1, axis=int(r.integers(3))),
    "grid coarser by a third": lambda v, _: ndimage.zoom(v, 2 / 3, order=1),
    "turned by 2 degrees, moved": _moved(2),
    "turned by 5 degrees, moved": _moved(5),
    "turned by 8 degrees, moved": _moved(8),
    "turned by 5 degrees, moved, noise and bias": _rescanned,
    "lowest 15 % cut off": _cut,
}


def _paired(ours: list[np.ndarray], theirs: list[np.ndarray]) -> np.ndarray:
    pairs = zip(ours, theirs, strict=True)
    return np.array([hash_distances(a[None], b[None])[0, 0] for a, b in pairs])


def main(path: str, other: str | None = None) -> None:
    """Print what was measured on a cohort of different people."""
    cohort = Cohort.open(path)
    bits, changed = [], {name: list[np.ndarray]() for name in CHANGES}
    for index, scan_id in enumerate(cohort.scan_ids):
        volume = cohort.volume(index)
        bits.append(perceptual_hash(volume))
        for name, change in CHANGES.items() if index % EVERY == 0 else ():
            rng = numpy_generator(0, name, scan_id)
            changed[name].append(perceptual_hash(change(volume, rng)))
    prints = np.stack(bits)
    between = hash_distances(prints, prints)[np.triu_indices(len(bits), 1)]
    copies = {n: _paired(bits[::EVERY], c) for n, c in changed.items()}
    if other:
        second = Cohort.open(other)
        again = [perceptual_hash(second.volume(i)) for i in range(len(second))]
        copies["prepared with other settings"] = _paired(bits, again)
    result = {
        "scans": len(bits),
        "bits": prints.shape[-1],
        "threshold": NEAR,
        "different people": {
            "pairs": len(between),
            "least": float(between.min()),
            "1 %": float(np.percentile(between, 1)),
            "median": float(np.median(between)),
            "within threshold": int((between <= NEAR).sum()),
        },
        "copies": {
            name: {
                "median": float(np.median(d)),
                "most": float(d.max()),
                "recall": float(np.mean(d <= NEAR)),
            }
            for name, d in copies.items()
        },
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
