"""Interpolation, splines, velocity fields and their flow, against formulas written out here."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from volta3d.phantom.head import WARP_GRID, WARPS, shape_warp
from volta3d.phantom.subject import draw_subject
from volta3d.phantom.warp import (
    Grid,
    integrate,
    jacobian,
    noise,
    potential_velocity,
    sample,
    solenoidal_velocity,
    spline_matrix,
)

GRID = Grid((-10.0, 5.0, 0.0), 2.0, (9, 7, 8))


def test_sample_interpolates_linearly_in_mm() -> None:
    points = GRID.points()
    x, y, z = points.unbind(-1)
    ramp = torch.stack([3 * x - y + 0.5 * z, y])
    wanted = torch.tensor([[[[-9.3, 6.1, 3.7], [1.9, 9.0, 12.2]]]])
    found = sample(ramp, GRID, wanted)
    expected = 3 * wanted[..., 0] - wanted[..., 1] + 0.5 * wanted[..., 2]
    assert torch.allclose(found[0], expected, atol=1e-4)  # fp32 rounding of the unit coordinates
    assert torch.allclose(found[1], wanted[..., 1], atol=1e-4)


def test_sample_holds_the_border_value_outside() -> None:
    x = GRID.points()[..., 0][None]
    far = torch.tensor([[[[100.0, 8.0, 4.0], [-100.0, 8.0, 4.0]]]])
    assert sample(x, GRID, far).flatten().tolist() == pytest.approx([6.0, -10.0])


def cubic_b_spline(t: float) -> float:
    """The textbook formula of the centred cubic B-spline."""
    t = abs(t)
    if t < 1:
        return 2 / 3 - t**2 + t**3 / 2
    return (2 - t) ** 3 / 6 if t < 2 else 0.0


def test_spline_matrix_equals_the_formula_and_its_derivative() -> None:
    positions = np.array([0.0, 1.0, 7.3, 12.0, 29.9])
    knot = 6.0
    matrix = spline_matrix(positions, knot)
    slope = spline_matrix(positions, knot, slope=True)
    for row, position in enumerate(positions):
        for control in range(matrix.shape[1]):
            t = position / knot - (control - 1)
            assert matrix[row, control] == pytest.approx(cubic_b_spline(t), abs=1e-12)
            difference = (cubic_b_spline(t + 1e-5) - cubic_b_spline(t - 1e-5)) / (2e-5 * knot)
            assert slope[row, control] == pytest.approx(difference, abs=1e-6)


def test_noise_has_unit_deviation() -> None:
    axes = [np.arange(0, 240, 6.0)] * 3
    values = noise(np.random.default_rng(0), axes, knot=12.0)
    # About 20 x 20 x 20 control points: the deviation is known to a few per cent.
    assert float(values.std()) == pytest.approx(1.0, abs=0.06)
    assert abs(float(values.mean())) < 0.06


def test_solenoidal_velocity_has_its_amplitude_and_no_divergence() -> None:
    grid = Grid((0.0, 0.0, 0.0), 4.0, (50, 50, 50))
    velocity = solenoidal_velocity(np.random.default_rng(1), grid, knot=24.0, amplitude=1.5)
    assert float(velocity.std()) == pytest.approx(1.5, rel=0.1)
    gradients = [torch.gradient(velocity[a], spacing=4.0, dim=a)[0] for a in range(3)]
    inner = (slice(1, -1),) * 3
    divergence = (gradients[0] + gradients[1] + gradients[2])[inner]
    # Central differences of a spline are off by (spacing / knot)² or so; without the
    # cancellation the sum would be as large as the root of three gradients.
    assert float(divergence.std()) < 0.1 * float(gradients[0][inner].std())


def test_potential_velocity_has_the_wished_divergence() -> None:
    grid = Grid((0.0, 0.0, 0.0), 3.0, (40, 36, 32))
    x, y, z = grid.points().numpy().transpose(3, 0, 1, 2)
    wished = np.exp(-((x - 60) ** 2 + (y - 50) ** 2 + (z - 48) ** 2) / (2 * 12.0**2))
    velocity = potential_velocity(wished, grid)
    found = sum(torch.gradient(velocity[a], spacing=3.0, dim=a)[0] for a in range(3))
    inner = (slice(2, -2),) * 3
    error = np.abs(found.numpy() - (wished - wished.mean()))[inner]
    assert error.max() < 0.03  # of a peak of 1: the bias of central differences, h²/(2 sigma²)


def test_integrate_equals_small_euler_steps() -> None:
    grid = Grid((-30.0, -30.0, -30.0), 1.0, (61, 61, 61))
    points = grid.points()
    radius = points.square().sum(-1)
    # A rotation about z that fades outwards: no closed form, so step through it.
    fade = torch.exp(-radius / 300)
    velocity = torch.stack([-points[..., 1] * fade, points[..., 0] * fade, 0 * fade])
    found = integrate(velocity, grid)
    start = torch.tensor([[[[8.0, 0.0, 0.0], [0.0, -6.0, 4.0], [10.0, 10.0, 0.0]]]])
    moved = start.clone()
    for _ in range(2000):
        strength = torch.exp(-moved.square().sum(-1, keepdim=True) / 300)
        turn = torch.stack([-moved[..., 1], moved[..., 0], 0 * moved[..., 0]], dim=-1)
        moved = moved + turn * strength / 2000
    end = start + sample(found, grid, start).movedim(0, -1)
    # Linear interpolation on a 1 mm grid of a field whose second derivative reaches .1 / mm.
    assert float((end - moved).abs().max()) < 0.04


def test_jacobian_of_a_linear_map() -> None:
    matrix = torch.tensor([[0.1, 0.02, 0.0], [-0.05, -0.2, 0.03], [0.0, 0.04, 0.3]])
    displacement = torch.einsum("ab,xyzb->axyz", matrix, GRID.points())
    expected = float(torch.linalg.det(torch.eye(3) + matrix))
    assert torch.allclose(jacobian(displacement, GRID), torch.tensor(expected), atol=1e-4)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6])
def test_shape_warps_are_diffeomorphic_and_keep_volumes(number: int) -> None:
    displacement = shape_warp(draw_subject(number, 0), 0)
    change = jacobian(displacement, WARP_GRID)
    assert float(change.min()) > 0.5
    # Volumes are kept exactly in the continuum; the rest is interpolation on a 4 mm grid.
    assert float(change.mean()) == pytest.approx(1.0, abs=0.005)
    assert float(change.std()) < 0.03
    expected = sum(amplitude**2 for _, amplitude in WARPS) ** 0.5
    assert 0.5 * expected < float(displacement.std()) < 2 * expected  # it does deform
