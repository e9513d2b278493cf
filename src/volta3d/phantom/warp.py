"""Smooth diffeomorphic warps: a stationary velocity field, integrated by scaling and squaring.

A displacement or velocity field is a float32 tensor [3, X, Y, Z] in mm on a `Grid`; channel and
axis order are x (right), y (anterior), z (superior). Coordinates are [..., 3] in mm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

# Integrals over the real line of the squared cubic B-spline and of its squared derivative.
SPLINE_POWER = 151 / 315
SLOPE_POWER = 2 / 3


@dataclass(frozen=True)
class Grid:
    """Points at ``origin + spacing * index`` (mm), ``shape`` of them along x, y and z."""

    origin: tuple[float, float, float]
    spacing: float
    shape: tuple[int, int, int]

    def axes(self) -> list[np.ndarray]:
        """The coordinates along each axis, in mm."""
        return [
            o + self.spacing * np.arange(n) for o, n in zip(self.origin, self.shape, strict=True)
        ]

    def points(self) -> Tensor:
        """All coordinates, float32 [X, Y, Z, 3]."""
        axes = [torch.as_tensor(a, dtype=torch.float32) for a in self.axes()]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def sample(channels: Tensor, grid: Grid, points: Tensor) -> Tensor:
    """Linear interpolation of ``channels`` [C, X, Y, Z] at ``points`` [I, J, K, 3] in mm.

    Outside the grid the nearest border value holds. Returns [C, I, J, K].
    """
    origin = torch.tensor(grid.origin, dtype=torch.float32)
    last = torch.tensor([n - 1 for n in grid.shape])
    scale = 2 / (grid.spacing * last)
    unit = points * scale
    unit -= origin * scale + 1
    found = functional.grid_sample(
        channels[None],
        unit.flip(-1)[None],
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    return found[0]


def move(points: Tensor, displacement: Tensor, grid: Grid) -> Tensor:
    """``points`` [I, J, K, 3] carried along by a displacement field [3, X, Y, Z]."""
    return points + sample(displacement, grid, points).movedim(0, -1)


def spline_basis(
    positions: np.ndarray, knot: float, slope: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Cubic B-spline weights at ``positions`` (mm) of control points ``knot`` mm apart.

    Returns (weights, index of the first control point), each weight row holding the four control
    points that reach the position; with ``slope`` the weights of the derivative in 1/mm.
    """
    scaled = positions / knot
    first = np.floor(scaled).astype(int)
    t = scaled - first
    if slope:
        parts = [-((1 - t) ** 2) / 2, (3 * t**2 - 4 * t) / 2, (-3 * t**2 + 2 * t + 1) / 2, t**2 / 2]
        return np.stack(parts, axis=1) / knot, first
    parts = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    return np.stack(parts, axis=1) / 6, first


def spline_matrix(positions: np.ndarray, knot: float, slope: bool = False) -> np.ndarray:
    """`spline_basis` as a matrix [position, control point] over the control points needed."""
    weights, first = spline_basis(positions - positions.min(), knot, slope)
    matrix = np.zeros((len(positions), int(first.max()) + 4))
    for offset in range(4):
        matrix[np.arange(len(positions)), first + offset] += weights[:, offset]
    return matrix


def tensor_product(control: np.ndarray, matrices: list[np.ndarray]) -> np.ndarray:
    """A separable spline: ``control`` [A, B, C] to values [X, Y, Z].

    einsum rather than BLAS, whose sums may depend on the number of threads.
    """
    x, y, z = matrices
    half = np.einsum("abc,zc->abz", control, z)
    half = np.einsum("abz,yb->ayz", half, y)
    return np.asarray(np.einsum("ayz,xa->xyz", half, x), dtype=np.float32)


def noise(generator: np.random.Generator, axes: list[np.ndarray], knot: float) -> np.ndarray:
    """Smooth noise of mean 0 and standard deviation about 1 on the grid of ``axes`` (mm)."""
    matrices = [spline_matrix(axis, knot) for axis in axes]
    control = generator.standard_normal([m.shape[1] for m in matrices])
    return tensor_product(control / SPLINE_POWER**1.5, matrices)


def solenoidal_velocity(
    generator: np.random.Generator, grid: Grid, *, knot: float, amplitude: float
) -> Tensor:
    """A random velocity field without divergence, so that its flow preserves every volume.

    The curl of a random vector potential in cubic B-splines, control points ``knot`` mm apart;
    ``amplitude`` is the standard deviation of each component in mm.
    """
    plain = [spline_matrix(axis, knot) for axis in grid.axes()]
    slope = [spline_matrix(axis, knot, slope=True) for axis in grid.axes()]
    deviation = math.sqrt(2 * SLOPE_POWER * SPLINE_POWER**2) / knot  # of one curl component
    potential = generator.standard_normal([3, *(m.shape[1] for m in plain)]) * amplitude / deviation

    def derivative(component: int, axis: int) -> np.ndarray:
        matrices = [slope[a] if a == axis else plain[a] for a in range(3)]
        return tensor_product(potential[component], matrices)

    curl = [
        derivative((i + 2) % 3, (i + 1) % 3) - derivative((i + 1) % 3, (i + 2) % 3)
        for i in range(3)
    ]
    return torch.from_numpy(np.stack(curl))


def potential_velocity(divergence: np.ndarray, grid: Grid) -> Tensor:
    """The curl-free velocity field with the given ``divergence`` [X, Y, Z] (its mean is removed).

    Poisson's equation by FFT, periodic at the border of the grid.
    """
    spectrum = np.fft.rfftn(divergence - divergence.mean())
    n = grid.shape
    waves = np.meshgrid(
        2 * np.pi * np.fft.fftfreq(n[0], grid.spacing),
        2 * np.pi * np.fft.fftfreq(n[1], grid.spacing),
        2 * np.pi * np.fft.rfftfreq(n[2], grid.spacing),
        indexing="ij",
    )
    power = sum(w**2 for w in waves)
    power[0, 0, 0] = 1.0
    parts = [np.fft.irfftn(-1j * w * spectrum / power, s=n, axes=(0, 1, 2)) for w in waves]
    return torch.from_numpy(np.stack(parts).astype(np.float32))


def integrate(velocity: Tensor, grid: Grid, points: Tensor | None = None) -> Tensor:
    """The displacement after unit time along a stationary ``velocity`` [3, X, Y, Z].

    Scaling and squaring; the first step is one of the midpoint rule, at most half a grid spacing.
    ``points`` may be the grid's own, to make them once for several calls.
    """
    largest = float(velocity.abs().max())
    steps = max(0, math.ceil(math.log2(max(largest / (0.5 * grid.spacing), 1.0))))
    points = grid.points() if points is None else points
    step = velocity * math.ldexp(1.0, -steps)
    displacement = sample(step, grid, points + 0.5 * step.movedim(0, -1))
    for _ in range(steps):
        displacement = displacement + sample(
            displacement, grid, points + displacement.movedim(0, -1)
        )
    return displacement


def jacobian(displacement: Tensor, grid: Grid) -> Tensor:
    """The Jacobian determinant [X, Y, Z] of ``x + displacement(x)``, by central differences."""
    rows = []
    for component in range(3):
        gradient = list(torch.gradient(displacement[component], spacing=grid.spacing))
        gradient[component] = gradient[component] + 1
        rows.append(gradient)
    (a, b, c), (d, e, f), (g, h, i) = rows
    determinant: Tensor = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    return determinant
