"""People of the synthetic archives, and their scans as arrays or NIfTI files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np

from volta3d.phantom.anatomy import LEFT_HIPPOCAMPUS, RIGHT_HIPPOCAMPUS, Anatomy
from volta3d.phantom.head import make_head
from volta3d.phantom.scanner import SCANNERS, Scanner, acquire, scan_grid
from volta3d.phantom.subject import make_subject
from volta3d.randomness import numpy_generator

ATROPHY = {"CN": 0.0, "SMC": 0.0, "MCI": 0.5, "AD": 1.0}  # share of the phantom's atrophy
SAGITTAL = "PSR"  # columns to the front, rows upwards, slices to the right


@dataclass(frozen=True)
class Person:
    """Somebody invented.

    Attributes:
        archive: that they belong to.
        number: within it; the same one is the same anatomy at every visit.
        name: as the archive calls them.
        sex: M or F.
        age: years at the first visit.
    """

    archive: str
    number: int
    name: str
    sex: str
    age: float


@dataclass(frozen=True, eq=False)
class Taken:
    """One scan: int16 ``image`` and uint8 ``labels`` [I, J, K] (47 right, 48 left hippocampus),
    ``brain`` where there is one, and the voxel-to-world ``affine``."""

    image: np.ndarray
    labels: np.ndarray
    brain: np.ndarray
    affine: np.ndarray


@dataclass(frozen=True, eq=False)
class Camera:
    """What every scan of the archives is made with."""

    anatomy: Anatomy
    spacing: float
    seed: int

    def take(
        self,
        person: Person,
        scanner: Scanner,
        *,
        diagnosis: str = "CN",
        years: float = 0,
        n: int = 0,
    ) -> Taken:
        """A scan of a person some ``years`` after the first; ``n`` tells scans of a visit apart."""
        key = 10_000 * (1 + sorted(SCANNER_BASES).index(person.archive)) + person.number
        own = numpy_generator(self.seed, "phantom", "archives", key)
        subject = make_subject(
            key, person.name, own, person.age + years, person.sex, scanner.name,
            diagnosis, ATROPHY[diagnosis],
        )  # fmt: skip
        affine, shape = scan_grid(scanner, self.spacing, subject, self.seed)
        head = make_head(self.anatomy, subject, self.seed, affine, shape)
        visit = self.seed + 1 + round(12 * years) + 1000 * n  # noise, bias field and gain anew
        side = head.hippocampus.numpy()
        labels = np.zeros(shape, np.uint8)
        labels[side > 0.5] = RIGHT_HIPPOCAMPUS
        labels[side < -0.5] = LEFT_HIPPOCAMPUS
        image = acquire(head, scanner, affine, subject, visit)
        return Taken(image, labels, head.skull.numpy() < 0, affine)


# What each archive's scanners are like.
SCANNER_BASES = {
    "adni": replace(SCANNERS["siteB"], name="adni", axes=SAGITTAL, spacing=(0.95, 0.95, 1.2)),
    "aibl": replace(SCANNERS["siteA"], name="aibl", axes=SAGITTAL, spacing=(1.0, 1.0, 1.15)),
    "brats": replace(SCANNERS["siteA"], name="brats", axes="LPS", blur=0.7),
    "ixi": replace(SCANNERS["siteB"], name="ixi", axes="PSR", spacing=(0.95, 0.95, 1.2)),
}


def people(archive: str, names: list[str], ages: tuple[float, float], seed: int) -> list[Person]:
    """One person a name, every other a woman, ages spread evenly in random order."""
    generator = numpy_generator(seed, "phantom", "archives", archive)
    places = generator.permutation(len(names)) + generator.uniform(size=len(names))
    span = (ages[1] - ages[0]) / len(names)
    return [
        Person(archive, number, name, "MF"[number % 2], round(float(ages[0] + span * place), 1))
        for number, (name, place) in enumerate(zip(names, places, strict=True))
    ]


def save(path: Path, values: np.ndarray, affine: np.ndarray, axes: str = "") -> Path:
    """A NIfTI file, its voxels in another order of ``axes`` where given; says it is synthetic."""
    image = nib.Nifti1Image(values, affine)
    if axes:
        own = nib.orientations.io_orientation(affine)
        wanted = nib.orientations.axcodes2ornt(tuple(axes))
        image = image.as_reoriented(nib.orientations.ornt_transform(own, wanted))
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"synthetic, volta3d phantom"
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def table(path: Path, head: list[str], rows: list[list[object]], quote: bool = False) -> None:
    """A CSV file as archives write them: every cell quoted, or none but those that need it."""
    import csv

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL if quote else csv.QUOTE_MINIMAL)
        writer.writerows([head, *rows])
