"""Each intensity operation against its formula, and how they are drawn."""

import math

import numpy as np
import pytest
import torch

from volta3d.config import ViewsConfig
from volta3d.randomness import numpy_generator, torch_generator
from volta3d.views.intensity import (
    GIBBS,
    NODES,
    TERMS,
    Intensity,
    apply_intensity,
    bias_field,
    draw_intensity,
    gamma_power,
    gaussian_smooth,
    gibbs_ringing,
    histogram_shift,
)

SIZE = 9


@pytest.fixture
def views():
    return torch.rand(2, 1, SIZE, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def noise_of(i):
    return torch_generator("noise", i)


def close(got, expected, tolerance=2e-6):  # a few float32 roundings of values up to 2
    np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=tolerance)


def test_gamma(views):
    got = gamma_power(views, torch.tensor([0.5, 2.0]))
    close(got[0], np.sqrt(views[0].double().numpy()))
    close(got[1], views[1].double().numpy() ** 2)


def test_histogram_shift_is_piecewise_linear_interpolation(views):
    nodes = np.array([[0, 0.1, 0.7, 1], [0, 0.5, 0.6, 1]], dtype=np.float32)
    views[0, 0, 0, 0, :3] = torch.tensor([0.0, 1.0, 1 / 3])
    got = histogram_shift(views, torch.from_numpy(nodes))
    for i in range(2):
        close(got[i], np.interp(views[i].double().numpy(), np.linspace(0, 1, 4), nodes[i]))


def test_F14_no_operation_stumbles_over_a_voxel_that_is_no_number(views):
    views[0, 0, 4, 4, 4] = float("nan")
    views[0, 0, 0, 0, 0] = float("inf")
    every = Intensity(
        histogram=(0.0, 0.3, 1.0), sigma=(1, 1, 1), gibbs=0.5, bias=(0.1,) * len(TERMS)
    )
    got = apply_intensity(views, [every, Intensity(histogram=(0.0, 0.3, 1.0))], noise_of)
    assert got[0].isnan().any()
    assert got[1].isfinite().all()


def test_smoothing_equals_a_loop(views):
    sigma = np.array([[0.5, 1.2, 0.8], [1.4, 0.3, 0.9]])
    got = gaussian_smooth(views, torch.from_numpy(sigma).float())
    for i in range(2):
        expected = views[i, 0].double().numpy()
        for axis in range(3):
            lines = np.moveaxis(expected, axis, 0)
            smoothed = np.zeros_like(lines)
            for a in range(SIZE):
                weights = [math.exp(-((a - b) ** 2) / (2 * sigma[i, axis] ** 2)) for b in range(9)]
                for b in range(SIZE):
                    smoothed[a] += weights[b] / sum(weights) * lines[b]
            expected = np.moveaxis(smoothed, 0, axis)
        close(got[i, 0], expected)


def test_smoothing_keeps_a_constant_up_to_the_border():
    constant = torch.full((1, 1, SIZE, SIZE, SIZE), 0.7)
    close(gaussian_smooth(constant, torch.tensor([[1.5, 1.0, 0.5]])), 0.7)


@pytest.mark.parametrize("size", [8, 9])
def test_gibbs_truncates_k_space(size):
    views = torch.rand(2, 1, size, size, size, generator=torch.Generator().manual_seed(0))
    kept = [0.3, 0.65]
    got = gibbs_ringing(views.clone(), torch.tensor(kept))
    frequency = np.fft.fftfreq(size) / 0.5  # of Nyquist
    axes = np.meshgrid(frequency, frequency, frequency, indexing="ij")
    radius = np.sqrt(sum(a**2 for a in axes)) / math.sqrt(3)
    for i in range(2):
        spectrum = np.fft.fftn(views[i, 0].double().numpy())
        close(got[i, 0], np.fft.ifftn(np.where(radius <= kept[i], spectrum, 0)).real)
    close(gibbs_ringing(views.clone(), torch.tensor([1.01, 1.01])), views.numpy())


def test_bias_field_is_the_exponential_of_legendre_polynomials(views):
    coefficients = numpy_generator("bias").uniform(-0.1, 0.1, (2, len(TERMS)))
    got = bias_field(views, torch.from_numpy(coefficients).float())
    place = (2 * np.arange(SIZE) + 1) / SIZE - 1
    for i in range(2):
        cube = np.zeros((4, 4, 4))
        for term, value in zip(TERMS, coefficients[i], strict=True):
            cube[term] = value
        log_field = np.polynomial.legendre.leggrid3d(place, place, place, cube)
        close(got[i, 0], views[i, 0].double().numpy() * np.exp(log_field))


def test_bias_terms_are_all_of_degree_1_to_3():
    assert len(set(TERMS)) == len(TERMS) == math.comb(6, 3) - 1
    assert {sum(term) for term in TERMS} == {1, 2, 3}


@pytest.mark.parametrize("size", [8, 12, 16])
def test_R5_only_the_chosen_views_change_and_each_by_its_own_numbers(size):
    """Bitwise: sizes at which a batched FFT or matrix product would round differently."""
    many = torch.rand(5, 1, size, size, size, generator=torch.Generator().manual_seed(0))
    chosen = [
        Intensity(),
        Intensity(gamma=0.6, bias=tuple(np.linspace(-0.1, 0.1, len(TERMS)).tolist())),
        Intensity(histogram=(0.0, 0.4, 1.0), sigma=(0.5, 0.6, 0.7)),
        Intensity(noise=0.1, gibbs=0.5),
        Intensity(gamma=1.7),
    ]
    before = many.clone()
    together = apply_intensity(many.clone(), chosen, noise_of)
    assert torch.equal(together[0], before[0])
    for i in range(5):
        alone = apply_intensity(before[i : i + 1].clone(), [chosen[i]], lambda _, i=i: noise_of(i))
        assert torch.equal(together[i : i + 1], alone)
        assert i == 0 or not torch.equal(together[i], before[i])


def test_order_is_contrast_smoothing_gibbs_bias():
    one = torch.rand(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.5
    bias = torch.linspace(-0.05, 0.05, len(TERMS))[None]
    sigma = torch.tensor([[0.5, 0.6, 0.7]])
    steps = gamma_power(one, torch.tensor([1.5]))
    steps = gaussian_smooth(steps, sigma)
    steps = gibbs_ringing(steps, torch.tensor([0.6]))
    steps = bias_field(steps, bias).clamp(0, 1)
    chosen = Intensity(gamma=1.5, sigma=(0.5, 0.6, 0.7), gibbs=0.6, bias=tuple(bias[0].tolist()))
    torch.testing.assert_close(apply_intensity(one, [chosen], noise_of), steps)


def test_noise_has_its_standard_deviation_and_results_stay_in_range():
    grey = torch.full((2, 1, 24, 24, 24), 0.5)
    grey[1] = 0.99
    got = apply_intensity(grey, [Intensity(noise=0.05)] * 2, noise_of)
    # 13,824 draws: four standard errors of a standard deviation are 2.4 %
    assert float(got[0].std()) == pytest.approx(0.05, rel=0.024)
    assert float(got[0].mean()) == pytest.approx(0.5, abs=0.002)
    assert float(got.max()) == 1.0
    assert not torch.equal(got[0] - 0.5, got[1] - 0.99)


def test_nothing_to_do_touches_nothing(views):
    outside = views * 3 - 1  # would be clipped by any work at all
    before = outside.clone()
    assert apply_intensity(outside, [Intensity()] * 2, noise_of) is outside
    assert torch.equal(outside, before)


def drawn(count=600, *, smooth=0.5, gibbs=0.2, **settings):
    config = ViewsConfig(**settings)
    return [
        draw_intensity(numpy_generator("draw", i), config, smooth=smooth, gibbs=gibbs)
        for i in range(count)
    ]


def share(many, name):
    return np.mean([getattr(one, name) is not None for one in many])


def test_draws_follow_the_configured_probabilities():
    many = drawn()
    four_errors = 4 * 0.5 / math.sqrt(600)
    for name in ("gamma", "histogram", "noise"):
        assert share(many, name) == pytest.approx(0.8 / 3, abs=four_errors)
    for one in many:
        assert sum(x is not None for x in (one.gamma, one.histogram, one.noise)) <= 1
    assert share(many, "sigma") == pytest.approx(0.5, abs=four_errors)
    assert share(many, "gibbs") == pytest.approx(0.2, abs=four_errors)
    assert share(many, "bias") == pytest.approx(0.5, abs=four_errors)
    gammas = [one.gamma for one in many if one.gamma is not None]
    assert 0.5 <= min(gammas) < 0.6
    assert 1.9 < max(gammas) <= 2
    for one in many:
        assert one.histogram is None or np.all(np.diff(one.histogram) >= 0)
        assert one.histogram is None or (len(one.histogram), one.histogram[0]) == (NODES, 0)


def test_probabilities_at_their_ends():
    never = drawn(50, smooth=0.0, gibbs=0.0, contrast=0.0, bias=0.0)
    assert never == [Intensity()] * 50
    always = drawn(50, smooth=1.0, gibbs=1.0, contrast=1.0, bias=1.0)
    for name in ("sigma", "gibbs", "bias"):
        assert share(always, name) == 1
    assert sum(share(always, name) for name in ("gamma", "histogram", "noise")) == 1


def test_strength_scales_every_operation_and_zero_is_none():
    settings = {"smooth": 1.0, "gibbs": 1.0, "contrast": 1.0, "bias": 1.0}
    full, half = drawn(60, **settings), drawn(60, **settings, intensity=0.5)
    for strong, weak in zip(full, half, strict=True):
        assert np.allclose(weak.sigma, np.multiply(strong.sigma, 0.5))
        assert np.allclose(weak.bias, np.multiply(strong.bias, 0.5))
        assert weak.gibbs - 1 == pytest.approx((strong.gibbs - 1) / 2)
        if strong.gamma is not None:
            assert weak.gamma == pytest.approx(strong.gamma**0.5)
        if strong.noise is not None:
            assert weak.noise == pytest.approx(strong.noise / 2)
        if strong.histogram is not None:
            levels = np.linspace(0, 1, NODES)
            assert np.allclose(np.subtract(weak.histogram, levels) * 2 + levels, strong.histogram)
    assert drawn(50, **settings, intensity=0.0) == [Intensity()] * 50
    assert all(1 - GIBBS[1] <= one.gibbs <= 1 - GIBBS[0] for one in full)


def test_tiny_strength_changes_next_to_nothing(views):
    settings = {"smooth": 1.0, "gibbs": 0.0, "contrast": 1.0, "bias": 1.0}
    for one in drawn(20, **settings, intensity=1e-4):
        got = apply_intensity(views.clone(), [one] * 2, noise_of)
        # gamma moves a value by strength · ln 2 · x ln x at most, noise by 1e-5 · 5, bias by 2e-4
        torch.testing.assert_close(got, views, rtol=0, atol=4e-4)


def test_one_probability_leaves_the_other_operations_alone():
    for before, after in zip(drawn(20), drawn(20, contrast=0.0), strict=True):
        assert (before.sigma, before.gibbs, before.bias) == (after.sigma, after.gibbs, after.bias)
