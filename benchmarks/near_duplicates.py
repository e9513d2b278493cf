"""How far apart the perceptual hashes of different brains and of one brain's copies lie.

Run: python benchmarks/near_duplicates.py SOURCE --work DIR
Prepares the scans of SOURCE twice in DIR, measures, and puts a table on docs/RESULTS.md. Copies are
changed in the ways images are: noise, blur, gamma, a bias field, a shift by one voxel, rotations
with shifts, a coarser grid, the lowest 15 % of the volume cut off. The last column is the share of
copies within the threshold that ``audit`` uses.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from results_page import publish_part
from scipy import ndimage
from scipy.spatial.transform import Rotation

from volta3d.cohort.phash import NEAR, hash_distances, perceptual_hash
from volta3d.cohort.store import Cohort
from volta3d.config import PrepareConfig, build
from volta3d.prepare import prepare
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


PREPARED = {
    "one": ("size=96", "spacing=2"),
    "two": ("size=80", "spacing=2.5", "fit=pad"),
}


def prepared(source: Path, work: Path) -> list[Cohort]:
    """The scans prepared in two ways; what is there already is used."""
    found = []
    for name, settings in PREPARED.items():
        prepare([source], work / name, config=build(PrepareConfig, {}, settings))
        found.append(Cohort.open(work / name))
    return found


def measure(cohort: Cohort, second: Cohort) -> tuple[np.ndarray, dict[str, np.ndarray], int]:
    """Distances between different people, those of copies by change, and the bits compared."""
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
    again = [perceptual_hash(second.volume(i)) for i in range(len(second))]
    copies["prepared with other settings (all)"] = _paired(bits, again)
    return between, copies, prints.shape[-1]


def page(source: Path, scans: int) -> str:
    """The part of docs/RESULTS.md without its table."""
    ways = " and ".join(f"`{' '.join(f'--set {s}' for s in w)}`" for w in PREPARED.values())
    return (
        "## Near duplicates: how far brains and copies of one brain lie apart\n\n"
        f"Command: `python benchmarks/near_duplicates.py {source} --work work`\n\n"
        f"{scans} people, prepared with {ways}. Share of unlike bits in the pose that fits best; "
        f"one scan in {EVERY} was changed; `audit` calls up to {NEAR:g} nearly the same."
    )


def main() -> None:
    """Measure, and write the part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    given = parser.parse_args()
    first, second = prepared(given.source, given.work)
    between, copies, bits = measure(first, second)
    near = int((between <= NEAR).sum())
    rows = [
        f"| two people ({len(between):,} pairs, {bits} bits) | {np.median(between):.3f} | "
        f"least {between.min():.3f}, 1 % at {np.percentile(between, 1):.3f} | {near} pairs |",
        *(
            f"| {name} | {np.median(d):.3f} | most {d.max():.3f} | {np.mean(d <= NEAR):.0%} |"
            for name, d in copies.items()
        ),
    ]
    head = ["| | median | extreme | within |", "|---|---|---|---|"]
    publish_part(
        "near-duplicates", page(given.source, len(first)) + "\n\n" + "\n".join([*head, *rows])
    )


if __name__ == "__main__":
    main()
