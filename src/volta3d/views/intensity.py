"""Intensity operations of a view (METHOD section 2, after 3DINO), batched over all views.

Everything works on values scaled so that 0 is the lower and 1 the upper end of the range.
Shape suffixes: n views, S edge.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from volta3d.config import ViewsConfig

GAMMA = (0.5, 2.0)  # METHOD section 2
NODES = 10  # control points of the histogram shift [I MONAI, 3DINO]
NOISE = 0.1  # largest standard deviation, of the range [I MONAI]
SIGMA = (0.25, 1.5)  # voxels of the view, per axis [I MONAI]
GIBBS = (0.3, 0.7)  # of the k-space radius, cut off [C]
BIAS = 0.1  # largest coefficient of the log field, Legendre polynomials [C]
DEGREE = 3  # of the bias field [I MONAI]
TERMS = [
    (i, j, k)
    for i in range(DEGREE + 1)
    for j in range(DEGREE + 1 - i)
    for k in range(DEGREE + 1 - i - j)
    if i + j + k > 0
]


@dataclass(frozen=True)
class Intensity:
    """What is done to one view's intensities; None is an operation left out.

    The strength ``views.intensity`` is already in the numbers.

    Args:
        gamma: exponent.
        histogram: values at equally spaced grey levels 0..1, increasing.
        noise: standard deviation as a fraction of the range.
        sigma: Gaussian smoothing along axes 0, 1, 2, in voxels of the view.
        gibbs: radius kept in k-space, as a fraction of its corner's.
        bias: coefficients of the log field, one per entry of ``TERMS``.
    """

    gamma: float | None = None
    histogram: tuple[float, ...] | None = None
    noise: float | None = None
    sigma: tuple[float, float, float] | None = None
    gibbs: float | None = None
    bias: tuple[float, ...] | None = None


def draw_intensity(
    generator: np.random.Generator, views: ViewsConfig, *, smooth: float, gibbs: float
) -> Intensity:
    """Draw one view's intensity operations [C, after 3DINO].

    Args:
        smooth: probability of smoothing for this kind of view.
        gibbs: probability of Gibbs ringing for this kind of view.

    At ``views.intensity`` 0 nothing is done. Every number is drawn whether it is used or not, so
    that changing one probability leaves the other operations as they were.
    """
    strength = views.intensity
    chance = generator.uniform(size=4)
    contrast = generator.integers(3)
    gamma = generator.uniform(*GAMMA) ** strength
    histogram = _histogram(generator, strength)
    noise = generator.uniform(0.0, NOISE) * strength
    sigma = generator.uniform(*SIGMA, size=3) * strength
    kept = 1.0 - generator.uniform(*GIBBS) * strength
    bias = generator.uniform(-BIAS, BIAS, size=len(TERMS)) * strength
    if strength == 0.0:
        return Intensity()
    changed = chance[0] < views.contrast
    return Intensity(
        gamma=float(gamma) if changed and contrast == 0 else None,
        histogram=histogram if changed and contrast == 1 else None,
        noise=float(noise) if changed and contrast == 2 else None,
        sigma=(float(sigma[0]), float(sigma[1]), float(sigma[2])) if chance[1] < smooth else None,
        gibbs=float(kept) if chance[2] < gibbs else None,
        bias=tuple(bias.tolist()) if chance[3] < views.bias else None,
    )


def _histogram(generator: np.random.Generator, strength: float) -> tuple[float, ...]:
    levels = np.linspace(0.0, 1.0, NODES)
    moved = levels.copy()
    for i in range(1, NODES - 1):
        moved[i] = generator.uniform(moved[i - 1], moved[i + 1])
    return tuple((levels + strength * (moved - levels)).tolist())


def apply_intensity(
    views: Tensor,
    parameters: Sequence[Intensity],
    noise_generator: Callable[[int], torch.Generator],
) -> Tensor:
    """Apply each view's operations: contrast, smoothing, Gibbs ringing, bias field, clipping.

    Args:
        views: [n, 1, S, S, S] scaled to [0, 1]; changed in place.
        parameters: n of them.
        noise_generator: the generator of view i's voxel noise, on the device of ``views``.

    Returns:
        ``views``, in [0, 1].
    """
    if all(p == Intensity() for p in parameters):
        return views

    def where(name: str) -> list[int]:
        return [i for i, p in enumerate(parameters) if getattr(p, name) is not None]

    def values(name: str, chosen: list[int]) -> Tensor:
        numbers = np.array([getattr(parameters[i], name) for i in chosen], dtype=np.float32)
        return torch.from_numpy(numbers).to(views.device)

    for i in where("noise"):
        noise = torch.empty_like(views[i]).normal_(generator=noise_generator(i))
        views[i].add_(noise, alpha=parameters[i].noise or 0.0)
    operations = {
        "gamma": gamma_power,
        "histogram": histogram_shift,
        "sigma": gaussian_smooth,
        "gibbs": gibbs_ringing,
        "bias": bias_field,
    }
    for name, operation in operations.items():
        chosen = where(name)
        if len(chosen) == len(parameters):
            views = operation(views, values(name, chosen))
        elif chosen:
            index = torch.tensor(chosen, device=views.device)
            views[index] = operation(views[index], values(name, chosen))
    return views.clamp_(0.0, 1.0)


def gamma_power(views: Tensor, gamma: Tensor) -> Tensor:
    """views ** gamma, one exponent [n] per view; values in [0, 1]."""
    return views.clamp(0.0, 1.0).pow(gamma.view(-1, 1, 1, 1, 1))


def histogram_shift(views: Tensor, nodes: Tensor) -> Tensor:
    """The piecewise linear map through ``nodes`` [n, K] at K equally spaced grey levels."""
    flat = views.flatten(1).clamp(0.0, 1.0) * (nodes.shape[1] - 1)
    index = flat.long().clamp_(0, nodes.shape[1] - 2)  # also where a voxel is not a number
    start = nodes.gather(1, index)
    rise = nodes.diff(dim=1).gather(1, index)
    return torch.addcmul(start, flat.sub_(index), rise).view_as(views)


def gaussian_smooth(views: Tensor, sigma: Tensor) -> Tensor:
    """Separable Gaussian smoothing, ``sigma`` [n, 3] in voxels.

    The kernel is cut at the border and renormalised there, so that a constant stays constant.
    Written as three matrix products with the S×S smoothing matrix: no kernel radius to choose,
    and on one core several times faster than grouped convolutions.
    """
    count, size = views.shape[0], views.shape[-1]
    position = torch.arange(size, device=views.device, dtype=views.dtype)
    distance = position[:, None] - position
    weight = torch.exp(-0.5 * (distance / sigma[:, :, None, None].clamp_min(1e-3)) ** 2)
    weight = weight / weight.sum(-1, keepdim=True)  # [n, 3, S, S]
    out = weight[:, 0] @ views.view(count, size, size * size)
    out = weight[:, 1, None] @ out.view(count, size, size, size)
    out = out.view(count, size * size, size) @ weight[:, 2].transpose(1, 2)
    return out.view_as(views)


def gibbs_ringing(views: Tensor, kept: Tensor) -> Tensor:
    """Truncate k-space to the sphere of radius ``kept`` [n], a fraction of the corner's radius.

    Changes ``views`` in place.
    """
    size = views.shape[-1]
    dims = (-3, -2, -1)
    full = torch.fft.fftfreq(size, device=views.device) * 2 / math.sqrt(3)
    half = torch.fft.rfftfreq(size, device=views.device) * 2 / math.sqrt(3)
    radius2 = full[:, None, None] ** 2 + full[:, None] ** 2 + half**2
    inside = radius2 <= kept.view(-1, 1, 1, 1, 1) ** 2
    # a CPU's transform rounds differently in a batch
    at_once = 1 if views.device.type == "cpu" else len(views)
    for part, mask in zip(views.split(at_once), inside.split(at_once), strict=True):
        spectrum = torch.fft.rfftn(part, dim=dims) * mask
        part.copy_(torch.fft.irfftn(spectrum, s=(size, size, size), dim=dims))
    return views


def bias_field(views: Tensor, coefficients: Tensor) -> Tensor:
    """Multiply by exp of a polynomial of degree 3, ``coefficients`` [n, len(TERMS)]."""
    count, size = views.shape[0], views.shape[-1]
    x = (torch.arange(size, device=views.device, dtype=views.dtype) * 2 + 1) / size - 1
    basis = torch.stack([torch.ones_like(x), x, (3 * x**2 - 1) / 2, (5 * x**3 - 3 * x) / 2])
    cube = coefficients.new_zeros(count, DEGREE + 1, DEGREE + 1, DEGREE + 1)
    cube[(slice(None), *torch.tensor(TERMS, device=views.device).T)] = coefficients
    # summed term by term: a matrix product would round differently in another batch
    lines = _total(cube[:, i, None] * basis[i][:, None, None] for i in range(DEGREE + 1))
    planes = _total(lines[:, :, None, j] * basis[j][:, None] for j in range(DEGREE + 1))
    field = planes[:, :, :, 0, None].expand(count, size, size, size)
    for k in range(1, DEGREE + 1):
        field = torch.addcmul(field, planes[:, :, :, k, None], basis[k])
    return views * field.exp_()[:, None]


def _total(terms: Iterable[Tensor]) -> Tensor:
    return functools.reduce(torch.add, terms)
