"""BraTS: gliomas of adults, metastases and gliomas of children, four contrasts and their labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from volta3d.phantom.archives.scans import SCANNER_BASES, Camera, Taken, people, save
from volta3d.randomness import numpy_generator

GLI = "BraTS2024-BraTS-GLI-TrainingData/training_data1_v2"
MET = "ASNR-MICCAI-BraTS2023-MET-Challenge-TrainingData"
PED = "BraTS-PEDs2024_Training"
PER_SIZE = 8


def write_brats(root: Path, camera: Camera, size: int) -> None:
    """``<challenge>/<case>/<case>-t1n.nii.gz`` and its neighbours, stripped of their skulls.

    As in the real one: a second timepoint of a glioma, a metastasis without labels.
    """
    count = PER_SIZE * size
    found = people("brats", [str(n) for n in range(count)], (22.0, 78.0), camera.seed)
    for n, person in enumerate(found):
        folder, name = _case(n)
        timepoints = (100, 101) if n % 8 == 0 else (100,)
        for visit, point in enumerate(timepoints):
            case = f"{name}-{point if 'GLI' in name else point - 100:03d}"
            taken = camera.take(person, SCANNER_BASES["brats"], n=visit)
            seg = _tumour(taken, camera, n)
            _write(root / folder / case, case, taken, seg, labelled=n % 8 != 4)


def _case(n: int) -> tuple[str, str]:
    if n % 4 < 2:
        return GLI, f"BraTS-GLI-{5 + 3 * n:05d}"
    return (MET, f"BraTS-MET-{1 + n:05d}") if n % 4 == 2 else (PED, f"BraTS-PED-{2 + n:05d}")


def _tumour(taken: Taken, camera: Camera, n: int) -> np.ndarray:
    """Labels: 1 core, 3 its rim, 2 around it, uint8 [I, J, K], anywhere in the brain."""
    generator = numpy_generator(camera.seed, "phantom", "tumour", n)
    deep = ndimage.distance_transform_edt(taken.brain) * camera.spacing
    places = np.argwhere(deep > 15)
    centre = places[generator.integers(len(places))]
    apart = np.stack(np.meshgrid(*(np.arange(k) for k in deep.shape), indexing="ij"), -1) - centre
    distance = np.linalg.norm(apart, axis=-1) * camera.spacing + generator.normal(0, 1, deep.shape)
    radius = generator.uniform(8, 16)
    seg = np.select([distance < radius - 4, distance < radius, distance < radius + 8], [1, 3, 2])
    return np.asarray(seg * taken.brain, np.uint8)


def _write(folder: Path, case: str, taken: Taken, seg: np.ndarray, labelled: bool) -> None:
    image = taken.image * taken.brain
    white = float(np.percentile(image[taken.brain], 90))
    native = np.where(seg > 0, image * np.choose(seg, [1.0, 0.55, 0.8, 0.75]), image)
    water = np.clip(1.4 * white - native, 0, None) * taken.brain
    contrasts = {
        "t1n": native,
        "t1c": native + 0.6 * white * (seg == 3),
        "t2w": water,
        "t2f": np.where(seg > 0, water, 0.7 * native),
    }
    for contrast, values in contrasts.items():
        save(folder / f"{case}-{contrast}.nii.gz", np.rint(values).astype(np.int16), taken.affine)
    if labelled:
        save(folder / f"{case}-seg.nii.gz", seg, taken.affine)
