"""Two invented scanners: their grids, contrast, bias field, blur and noise."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage

from volta3d.phantom.effects import contrast_factor
from volta3d.phantom.head import Head, rotation_matrix
from volta3d.phantom.subject import Subject
from volta3d.phantom.warp import noise
from volta3d.randomness import numpy_generator

FIELD = (206.0, 244.0, 232.0)  # mm along x, y, z
CENTRE = (0.0, -18.0, -1.0)  # mm, world
SIGNAL_DEVIATION = 0.04  # of each tissue's signal between subjects, relative to white matter


@dataclass(frozen=True)
class Scanner:
    """One synthetic site.

    Attributes:
        axes: anatomical direction of growing voxel indices.
        spacing: along those axes, relative to the base spacing.
        oblique: standard deviation of the grid's tilt about each axis, degrees.
        grey, fluid, fat, flesh, bone: signal relative to white matter.
        gain: stored value of white matter; varies by a tenth between subjects.
        noise: standard deviation of the complex noise relative to white matter.
        bias: standard deviation of the logarithm of the bias field.
        blur: standard deviation of the point spread in voxels.
        tesla: nominal field strength, for the sidecar.
    """

    name: str
    axes: str
    spacing: tuple[float, float, float]
    oblique: float
    grey: float
    fluid: float
    fat: float
    flesh: float
    bone: float
    gain: float
    noise: float
    bias: float
    blur: float
    tesla: float


SCANNERS = {
    "siteA": Scanner(
        name="siteA", axes="RAS", spacing=(1.0, 1.0, 1.0), oblique=0.0,
        grey=0.70, fluid=0.24, fat=1.15, flesh=0.55, bone=0.10,
        gain=620.0, noise=0.018, bias=0.06, blur=0.35, tesla=3.0,
    ),
    "siteB": Scanner(
        name="siteB", axes="PSR", spacing=(0.9, 0.9, 1.3), oblique=3.0,
        grey=0.73, fluid=0.27, fat=1.10, flesh=0.58, bone=0.12,
        gain=190.0, noise=0.03, bias=0.09, blur=0.40, tesla=1.5,
    ),
}  # fmt: skip


def scan_grid(
    scanner: Scanner, spacing: float, subject: Subject, seed: int
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The voxel-to-world affine (4×4, RAS mm) and shape of one scan at base ``spacing`` mm."""
    directions = nib.orientations.axcodes2ornt(tuple(scanner.axes))
    generator = numpy_generator(seed, "phantom", "tilt", subject.number)
    tilt = rotation_matrix(np.radians(scanner.oblique) * generator.standard_normal(3))
    matrix = np.zeros((3, 3))
    shape = []
    for column, (axis, sign) in enumerate(directions):
        step = spacing * scanner.spacing[column]
        matrix[int(axis), column] = sign * step
        shape.append(int(np.ceil(FIELD[int(axis)] / step)))
    matrix = tilt @ matrix
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = np.array(CENTRE) - matrix @ ((np.array(shape) - 1) / 2)
    return affine, (shape[0], shape[1], shape[2])


def acquire(
    head: Head, scanner: Scanner, affine: np.ndarray, subject: Subject, seed: int
) -> np.ndarray:
    """The scan of a head: magnitude image, int16 [I, J, K]."""
    generator = numpy_generator(seed, "phantom", "scan", subject.number)
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    axes = [step * np.arange(n) for step, n in zip(steps, head.skull.shape, strict=True)]
    signal = _shell(head, scanner, axes, generator)
    signal[head.inside.numpy()] = _brain(head, scanner, subject, generator)
    signal = ndimage.gaussian_filter(signal, scanner.blur, truncate=3.0)
    signal *= np.exp(scanner.bias * noise(generator, axes, knot=90.0))
    deviation = np.float32(scanner.noise)
    real, imaginary = (
        generator.standard_normal(signal.shape, dtype=np.float32) * deviation for _ in range(2)
    )
    magnitude = np.hypot(signal + real, imaginary)  # Rician
    gain = scanner.gain * np.exp(0.1 * generator.standard_normal())
    return np.asarray(np.rint(np.clip(magnitude * gain, 0, 32767)), dtype=np.int16)


def _brain(
    head: Head, scanner: Scanner, subject: Subject, generator: np.random.Generator
) -> np.ndarray:
    """Signal at the voxels inside the hull [N]: a mixture of the tissues, partial volume."""
    grey, fluid = np.array([scanner.grey, scanner.fluid]) + SIGNAL_DEVIATION * (
        generator.standard_normal(2)
    )
    grey = 1 - (1 - grey) * contrast_factor(subject.age)
    signal = head.white + grey * head.grey + fluid * head.fluid
    return np.asarray(signal + (1 - grey) * head.texture)


def _shell(
    head: Head, scanner: Scanner, axes: list[np.ndarray], generator: np.random.Generator
) -> np.ndarray:
    """Signal outside the brain's hull: fluid, skull with marrow, scalp, face and neck, air."""
    thickness = np.array([2.0, 6.0, 5.0]) + [0.4, 0.8, 0.8] * generator.standard_normal(3)  # mm
    fluid, skull, scalp = np.maximum(thickness, 0.5)
    bone, fat = scanner.bone, scanner.fat
    marrow = 0.45 * fat
    uneven = np.float32(1) + np.float32(0.15) * noise(generator, axes, knot=30.0)
    distance = np.maximum(head.skull.numpy(), 0) * np.clip(uneven, 0.6, 1.5)
    edges = np.cumsum(
        [0, fluid, 0.5, 0.3 * skull, 0.2 * skull, 0.2 * skull, 0.3 * skull, 0.5, scalp, 1]
    )
    levels = [scanner.fluid, scanner.fluid, bone, bone, marrow, bone, bone, fat, 0.8 * fat, 0]
    signal = np.interp(distance, edges, levels).astype(np.float32)
    # Face and neck: muscle in strands, with fat under the skin.
    depth = -head.flesh.numpy()
    strands = np.clip(0.5 + 0.5 * noise(generator, axes, knot=6.0), 0, 1)
    muscle = scanner.flesh * (0.55 + 0.45 * strands)
    flesh = np.where(depth > 4, muscle, fat) * np.clip(depth + 0.5, 0, 1)
    beyond = np.clip((distance - edges[-2]) / 1.5, 0, 1)
    return np.asarray(signal + (flesh * beyond).astype(np.float32))
